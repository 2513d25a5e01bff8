package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestFileWatch: every way in which a file comes to have another content is seen, and no other file's.
func TestFileWatch(t *testing.T) {
	for _, c := range []struct {
		name   string
		path   string // watched, below the directory
		before func(dir string)
		change func(dir string)
		silent bool
	}{
		{"written in place", "a", file("a"), file("a"), false},
		{"renamed over", "a", file("a"), rename("b", "a"), false},
		{"removed", "a", file("a"), func(dir string) { os.Remove(dir + "/a") }, false},
		{"mode", "a", file("a"), func(dir string) { os.Chmod(dir+"/a", 0o600) }, false},
		{"appears", "a", nil, file("a"), false},
		{"appears with its directories", "x/y/a", nil, func(dir string) { os.MkdirAll(dir+"/x", 0o755) }, false},
		{"another file beside it", "a", file("a"), file("b"), true},
		{"a directory's file", "d", file("d/a"), file("d/b"), false},
		{"a link leads elsewhere", "l/a", links, func(dir string) { os.Symlink("two", dir+"/next"); os.Rename(dir+"/next", dir+"/l") }, false},
		{"behind a link", "l/a", links, file("one/a"), false},
		{"behind another link", "l/a", links, file("two/a"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if c.before != nil {
				c.before(dir)
			}
			seen := make(chan string, 100)
			f, err := newFileWatch(t.Context(), func(path string) { seen <- path })
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, c.path)
			// What comes after the change, and is always seen, ends the wait for what must not be.
			end := filepath.Join(dir, "end")
			if more, err := f.set([]string{path, end}); err != nil || !more {
				t.Fatal(more, err)
			}
			if more, err := f.set([]string{path, end}); err != nil || more {
				t.Errorf("the same again: more is watched: %v, %v", more, err)
			}
			c.change(dir)
			file("end")(dir)
			changed := false
			for {
				select {
				case got := <-seen:
					changed = changed || got == path
					if got != end {
						continue
					}
				case <-time.After(30 * time.Second):
					t.Fatal("the end is not seen")
				}
				break
			}
			if changed == c.silent {
				t.Errorf("seen: %v", changed)
			}
		})
	}
}

func file(name string) func(string) {
	return func(dir string) {
		path := filepath.Join(dir, name)
		_ = os.MkdirAll(filepath.Dir(path), 0o755)
		_ = os.WriteFile(path, []byte("content"), 0o644)
	}
}

func rename(from, to string) func(string) {
	return func(dir string) {
		file(from)(dir)
		_ = os.Rename(filepath.Join(dir, from), filepath.Join(dir, to))
	}
}

func links(dir string) {
	file("one/a")(dir)
	file("two/a")(dir)
	_ = os.Symlink("one", dir+"/l")
}
