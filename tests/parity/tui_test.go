package parity

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/document"
)

// TestTUI holds the cases of tui.json against the real program. It has no command
// that prints these settings, but its log says of each file whether it was
// applied, held nothing that it knows, or was skipped as invalid, and which key
// was why. "attach" reads them before it needs a terminal or a server, and reads
// those of all directories above the working directory, each by itself: a file
// for every case, one inside of the other, makes one start of it serve them all.
func TestTUI(t *testing.T) {
	p := newPrograms(t, needOpencode(t))
	// Relative paths in a case, sounds and plugins, are not looked up at this stage.
	dir, files := t.TempDir(), map[string]*testCase{}
	for _, c := range readCases(t) {
		if !c.tui {
			continue
		}
		dir = filepath.Join(dir, "d")
		path := filepath.Join(dir, "tui.json")
		write(t, path, p.terminal(t, c))
		files[path] = c
	}
	if len(files) == 0 {
		t.Fatal("no cases")
	}
	last := filepath.Join(dir, "last", "tui.json")
	write(t, last, `{"theme": "last"}`)

	loaded := p.attach(t, last)
	for path, c := range files {
		said, ok := loaded[path]
		if !ok {
			t.Errorf("%s: opencode did not look at %s", c, path)
		} else if problem := c.terminalAgainst(said); problem != "" {
			t.Errorf("%s: %s\n%s", c, problem, c.text)
		}
	}
}

// loading is what the log says of one tui.json.
type loading struct {
	applied bool   // something of it counts
	invalid string // why nothing does
}

// terminalAgainst says what of a case of tui.json does not hold; "" means that all
// does.
func (c *testCase) terminalAgainst(said loading) string {
	switch {
	case c.kind == "reject":
		if said.invalid == "" {
			return "opencode accepts it"
		}
		if name := strings.Join(c.key, "."); !ends(said.invalid, name) {
			return "opencode does not name " + name + ": " + said.invalid
		}
	case said.invalid != "":
		return "opencode rejects it: " + said.invalid
	case c.kind == "stricter":
		if c.table.Len() == 1 && c.table.Get(c.key[0]) != nil && len(c.key) == 1 && said.applied {
			return "opencode keeps what it was said to drop"
		}
	case !said.applied && c.table.Len() > 0:
		return "opencode finds nothing in it"
	}
	return ""
}

// terminal is the tui.json that opencode is given: what our program made of an
// accepted case, and the case itself otherwise.
func (p *programs) terminal(t *testing.T, c *testCase) string {
	t.Helper()
	c.table = c.parsed()
	switch {
	case c.kind == "accept":
		dir := t.TempDir()
		name := "tui" + filepath.Ext(c.name)
		write(t, filepath.Join(dir, name), c.text)
		cmd := exec.Command(p.opencoded, "config", "build", "-o", "out", name)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: we reject it: %s", c, out)
		}
		text, err := os.ReadFile(filepath.Join(dir, "out", "tui.json"))
		if err != nil && c.table.Len() > 0 {
			t.Fatalf("%s: %v", c, err)
		}
		return string(text)
	case c.original() || c.table == nil:
		return c.text
	}
	return config.Text(&document.Value{Data: c.table})
}

// attach starts opencode in the directory of the last file, and ends it when its
// log has come to that file.
func (p *programs) attach(t *testing.T, last string) map[string]loading {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	// Nothing listens on port 9, and nothing has to.
	cmd := exec.CommandContext(ctx, p.opencode, "attach", "http://127.0.0.1:9", "--print-logs", "--log-level", "INFO")
	cmd.Dir = filepath.Dir(last)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "TERM=xterm", "OPENCODE_DISABLE_MODELS_FETCH=1",
		"OPENCODE_DISABLE_AUTOUPDATE=1", "OPENCODE_PURE=1", "NO_COLOR=1"}
	for name, value := range variables {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd.Stderr = write
	err = cmd.Start()
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := readLoadings(read, last)
	cancel()
	_ = cmd.Wait() // it was killed
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

var loadingLine = regexp.MustCompile(`message="(loading|applying|skipping invalid) tui config" path=(\S+)(?: reason=("(?:[^"\\]|\\.)*"))?`)

func readLoadings(log io.Reader, last string) (map[string]loading, error) {
	loaded := map[string]loading{}
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m := loadingLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		if m[2] == last && m[1] != "loading" {
			return loaded, nil
		}
		said := loaded[m[2]]
		switch m[1] {
		case "applying":
			said.applied = true
		case "skipping invalid":
			if err := json.Unmarshal([]byte(m[3]), &said.invalid); err != nil {
				return nil, fmt.Errorf("cannot read the reason in %q: %w", lines.Text(), err)
			}
		}
		loaded[m[2]] = said
	}
	return nil, fmt.Errorf("opencode ended before it came to %s (%v); it looked at %d files", last, lines.Err(), len(loaded))
}
