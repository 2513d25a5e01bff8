package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// fileWatch tells which of some paths change, appear or go, whatever way: written, renamed over, or reached by another
// link. A path may name a directory, whose files count too.
type fileWatch struct {
	watcher *fsnotify.Watcher
	mu      sync.Mutex
	paths   []string          // as they were given
	routes  map[string]string // everything on the way to a path: itself, where links lead, the links
}

// newFileWatch calls changed with each path that has changed, and with "" when changes were missed, until the context
// ends. What cannot be watched is an error of set.
func newFileWatch(ctx context.Context, changed func(path string)) (*fileWatch, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	f := &fileWatch{watcher: watcher}
	go func() {
		defer watcher.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case e, open := <-watcher.Events:
				if !open {
					return
				}
				for _, path := range f.concerned(e.Name) {
					changed(path)
				}
			case _, open := <-watcher.Errors:
				if !open {
					return
				}
				changed("")
			}
		}
	}()
	return f, nil
}

// set replaces the paths. Directories are watched, not files, which most programs replace; of a path that does not
// exist the nearest directory above that does. What appears moves the watch nearer, so set is to be called again after
// a change. It reports whether directories are watched that were not: what happened in them before was not seen.
func (f *fileWatch) set(paths []string) (more bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paths, f.routes = paths, map[string]string{}
	dirs := map[string]bool{}
	for _, path := range paths {
		for _, hop := range route(path) {
			f.routes[hop] = path
			for _, dir := range []string{nearest(filepath.Dir(hop)), hop} {
				// By its own name: two names of one directory would take the watch from each other.
				real, err := filepath.EvalSymlinks(dir)
				if info, statErr := os.Stat(real); err == nil && statErr == nil && info.IsDir() {
					dirs[real] = true
				}
			}
		}
	}
	before := f.watcher.WatchList()
	for _, dir := range before {
		if !dirs[dir] {
			_ = f.watcher.Remove(dir) // it may be gone already
		}
	}
	var errs []error
	for dir := range dirs {
		more = more || !slices.Contains(before, dir)
		// Again where it is watched already: another directory may have the name by now.
		if err := f.watcher.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return more, errors.Join(errs...)
}

// concerned are the paths that a change of a name concerns: it is one of them, lies on the way to one, or in one.
func (f *fileWatch) concerned(name string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	seen := map[string]bool{}
	for hop, path := range f.routes {
		if !seen[path] && (hop == name || strings.HasPrefix(hop, name+"/") || filepath.Dir(name) == hop) {
			out = append(out, path)
			seen[path] = true
		}
	}
	return out
}

// route is a path, each link on the way, and where they lead: secrets are often handed over as a link to a directory
// that is replaced as a whole.
func route(path string) []string {
	const most = 40 // as the kernel: MAXSYMLINKS
	out := []string{path}
	for range most {
		link := firstLink(path)
		if link == "" {
			break
		}
		target, err := os.Readlink(link)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		path = filepath.Join(target, strings.TrimPrefix(path, link))
		out = append(out, link, path)
	}
	return out
}

// firstLink is the first part of a path that is a symbolic link.
func firstLink(path string) string {
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		info, err := os.Lstat(path[:i])
		if err != nil {
			return ""
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return path[:i]
		}
	}
	return ""
}

func nearest(dir string) string {
	for dir != "/" && !exists(dir) {
		dir = filepath.Dir(dir)
	}
	return dir
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
