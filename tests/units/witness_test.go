package units

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// witnessVariable makes this binary stand in for opencode: it writes what it sees
// of its process to the file of that name, and stays.
const witnessVariable = "UNITS_WITNESS"

// testimony is what a process saw of itself.
type testimony struct {
	Args        []string
	Environment map[string]string
	Directory   string
	Seen        map[string]string // by directory: writable, read-only, hidden
}

func (t testimony) look(dir string) string {
	if seen, ok := t.Seen[dir]; ok {
		return seen
	}
	return "missing"
}

func witness(path string) {
	w := testimony{Args: os.Args, Environment: map[string]string{}, Seen: map[string]string{}}
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		w.Environment[name] = value
	}
	w.Directory, _ = os.Getwd() // an empty one is found to be wrong
	for _, top := range []string{"/d", "/s", "/w", "/r", "/u", "/e", "/missing", "/var/lib/opencoded"} {
		// What cannot be read has nothing below it.
		_ = filepath.WalkDir(top, func(p string, e fs.DirEntry, err error) error {
			if p == top && err != nil {
				return err
			}
			if e.IsDir() {
				w.Seen[p] = access(p)
			}
			return nil
		})
	}
	text, err := json.Marshal(w)
	if err == nil {
		err = os.WriteFile(path+".new", text, 0o644)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done() // until systemd ends it
}

// access(2) modes.
const readable, writable = 4, 2

func access(path string) string {
	switch {
	case syscall.Access(path, readable) != nil:
		return "hidden"
	case syscall.Access(path, writable) == nil:
		return "writable"
	default:
		return "read-only"
	}
}

// awaitTestimony reads the file of a witness as soon as it is there.
func awaitTestimony(t *testing.T, path string) testimony {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		text, err := os.ReadFile(path)
		if err == nil {
			var w testimony
			if err := json.Unmarshal(text, &w); err != nil {
				t.Fatal(err)
			}
			return w
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("no testimony at %s", path)
		}
	}
}
