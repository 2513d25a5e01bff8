// Package managed reads the files that opencoded writes on a host, for tests of what is left of them when it was stopped
// halfway. Its functions run inside of a machine.
package managed

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/sandbox"
	"github.com/opencoded/opencoded/tests/operator"
)

// Files reads every file that opencoded writes on the host.
func Files(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, pattern := range []string{"/etc/systemd/system/opencode-*", "/etc/systemd/system/.opencode-*", "/etc/sysusers.d/*opencode-*", "/etc/sysusers.d/.opencode-*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range found {
			files[p] = operator.Read(t, p)
		}
	}
	err := filepath.WalkDir("/var/lib/opencoded", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files[p] = operator.Read(t, p)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return files
}

// temporary reports whether a file is one that has not reached its name.
func temporary(path string) bool { return strings.HasSuffix(path, ".opencoded-new") }

// Whole asserts that each file reads as what it is: none is cut off.
func Whole(t *testing.T, files map[string]string) {
	t.Helper()
	for path, text := range files {
		switch {
		case temporary(path):
		case strings.HasSuffix(path, ".json") && !json.Valid([]byte(text)):
			t.Errorf("%s is not JSON: %q", path, text)
		case strings.HasSuffix(path, ".service") || strings.HasPrefix(path, "/etc/sysusers.d/"):
			if !strings.HasPrefix(text, sandbox.Marker+"\n") || !strings.HasSuffix(text, "\n") {
				t.Errorf("%s is cut off: %q", path, text)
			}
		case text == "":
			t.Errorf("%s is empty", path)
		}
	}
}

// OldOrNew asserts that after a kill each file has the content from before the
// apply that was killed, or the one that the next apply left; or is absent, if
// it was absent in one of them.
func OldOrNew(t *testing.T, before, killed, after map[string]string) {
	t.Helper()
	for path, text := range killed {
		old, hadOld := before[path]
		is, hasNew := after[path]
		if !temporary(path) && (!hadOld || text != old) && (!hasNew || text != is) {
			t.Errorf("%s is neither old nor new:\n%s\nold:\n%s\nnew:\n%s", path, text, old, is)
		}
	}
	for path := range before {
		_, there := killed[path]
		if _, stays := after[path]; stays && !there && !temporary(path) {
			t.Errorf("%s was gone for a while", path)
		}
	}
	for path := range after {
		if temporary(path) {
			t.Errorf("%s was left behind", path)
		}
	}
}
