package host

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/tests/tier"
)

// nobody stands for an instance's account; 65534 has no rights anywhere.
const nobody = 65534

func needRoot(t *testing.T) {
	t.Helper()
	tier.Need(t, "host", tier.Root())
}

func stat(t *testing.T, path string) plan.Path {
	t.Helper()
	p, err := look(path, true)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWriteFileReplacesWhole(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "unit.service")
	for _, content := range []string{"first\n", "second, longer\n", ""} {
		if err := writeFile(plan.File{Path: path, Mode: 0o640, GID: nobody, Content: content}); err != nil {
			t.Fatal(err)
		}
		want := plan.Path{Exists: true, Mode: 0o640, GID: nobody, Content: content}
		if got := stat(t, path); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// What a kill left behind may be readable by others, or be a link.
func TestWriteFileDoesNotTrustLeftovers(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "secret")
	if err := os.Symlink(victim, filepath.Join(dir, ".secret.opencoded-new")); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(plan.File{Path: path, Mode: 0o600, Content: "new"}); err != nil {
		t.Fatal(err)
	}
	if got := stat(t, victim).Content; got != "old" {
		t.Errorf("the link was followed: %q", got)
	}
	if got := stat(t, path); got.Mode != 0o600 || got.Content != "new" {
		t.Errorf("got %+v", got)
	}
}

func TestMakeDir(t *testing.T) {
	needRoot(t)
	base := t.TempDir()
	d := plan.Dir{Path: filepath.Join(base, "a/b/c"), Mode: 0o700, UID: nobody, GID: nobody}
	for range 2 { // again: nothing changes
		if err := makeDir(d); err != nil {
			t.Fatal(err)
		}
	}
	if got := stat(t, d.Path); got.Mode != 0o700 || got.UID != nobody || got.GID != nobody {
		t.Errorf("the directory is %+v", got)
	}
	if got := stat(t, filepath.Join(base, "a/b")); got.Mode != 0o755 || got.UID != 0 {
		t.Errorf("its parent is %+v", got)
	}

	// One that is there already keeps what it has when it is only adopted.
	if err := makeDir(plan.Dir{Path: d.Path, Mode: 0o755, Adopt: true}); err != nil {
		t.Fatal(err)
	}
	if got := stat(t, d.Path); got.Mode != 0o700 || got.UID != nobody {
		t.Errorf("adopted, it became %+v", got)
	}
}

// Somebody who owns a directory on the way can put a link into it at any time;
// root must not be led away by it.
func TestMakeDirFollowsNobodysLinks(t *testing.T) {
	needRoot(t)
	base, elsewhere := t.TempDir(), t.TempDir()
	home := filepath.Join(base, "home")
	if err := makeDir(plan.Dir{Path: home, Mode: 0o755, UID: nobody, GID: nobody}); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(home, ".config")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(link, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	for _, d := range []plan.Dir{
		{Path: link, Mode: 0o700, UID: nobody, Adopt: true, Below: home},
		{Path: filepath.Join(link, "opencode"), Mode: 0o700, UID: nobody, Adopt: true, Below: home},
		{Path: filepath.Join(link, "project"), Mode: 0o770, UID: nobody, Adopt: true},
		{Path: filepath.Join(link, "deep/project"), Mode: 0o770, UID: nobody, Adopt: true},
	} {
		if err := makeDir(d); err == nil {
			t.Errorf("%s was made through a link", d.Path)
		}
	}
	entries, err := os.ReadDir(elsewhere)
	if err != nil || len(entries) > 0 {
		t.Errorf("made elsewhere: %v, %v", entries, err)
	}
}

func TestMakeDirDoesNotTakeOver(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "state")
	if err := makeDir(plan.Dir{Path: path, Mode: 0o755, UID: 12345, GID: 12345}); err != nil {
		t.Fatal(err)
	}
	err := makeDir(plan.Dir{Path: path, Mode: 0o700, UID: nobody, GID: nobody})
	if err == nil || !strings.Contains(err.Error(), "belongs to uid 12345") {
		t.Errorf("got %v", err)
	}
}

func TestMakeLinkStaysBelow(t *testing.T) {
	needRoot(t)
	home, elsewhere := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".config/opencode"), 0o755); err != nil {
		t.Fatal(err)
	}
	l := plan.Link{Below: home, Name: ".config/opencode/opencode.json", Target: "/var/lib/x"}
	for range 2 {
		if err := makeLink(l); err != nil {
			t.Fatal(err)
		}
	}
	if got := stat(t, filepath.Join(home, l.Name)); got.Type != fs.ModeSymlink || got.Content != "/var/lib/x" {
		t.Errorf("the link is %+v", got)
	}
	if err := os.RemoveAll(filepath.Join(home, ".config")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(home, ".config")); err != nil {
		t.Fatal(err)
	}
	if err := makeLink(l); err == nil {
		t.Error("a link was made outside of the directory")
	}
}

func TestTrusted(t *testing.T) {
	needRoot(t)
	// The temporary directory of the system can be written by anybody.
	base, err := os.MkdirTemp("/root", "trust")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	file := filepath.Join(base, "dir/file")
	reset := func() {
		os.RemoveAll(filepath.Join(base, "dir"))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		change func() error
		want   string // "" means trusted
	}{
		{"as it should be", func() error { return nil }, ""},
		{"a group of root's may write", func() error { return os.Chmod(file, 0o664) }, ""},
		{"others may write", func() error { return os.Chmod(file, 0o646) }, "can be written by others"},
		{"another group may write", func() error { os.Chown(file, 0, nobody); return os.Chmod(file, 0o664) }, "can be written by others"},
		{"another's file", func() error { return os.Chown(file, nobody, 0) }, "not to root"},
		{"a directory that others may write", func() error { return os.Chmod(filepath.Dir(file), 0o777|fs.ModeSticky) }, "can be written by others"},
		{"a sticky directory to which another group may add", func() error {
			os.Chown(filepath.Dir(file), 0, nobody)
			return os.Chmod(filepath.Dir(file), 0o775|fs.ModeSticky)
		}, ""},
		{"a directory of another group's", func() error { os.Chown(filepath.Dir(file), 0, nobody); return os.Chmod(filepath.Dir(file), 0o775) }, "can be written by others"},
		{"another's directory", func() error { return os.Chown(filepath.Dir(file), nobody, 0) }, "not to root"},
		{"absent", func() error { return os.Remove(file) }, "no such file"},
	} {
		reset()
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		err := trusted(file)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	reset()
	link := filepath.Join(base, "link")
	if err := os.Symlink("/tmp", link); err != nil {
		t.Fatal(err)
	}
	if err := trusted(link); err == nil {
		t.Error("a link to a place that others can write is trusted")
	}
}
