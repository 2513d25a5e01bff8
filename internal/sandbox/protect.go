package sandbox

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/instance"
)

// protect makes parts of what the instance can write read-only, where they exist at
// the start. The paths mean what they are inside of its root ("+"), so a link that
// the agent left there shows it nothing of the host. Every directory on the way is
// made a mount point, because a mount point cannot be moved away with what is below
// it: by ExecPaths=, whose only effect here that is, and which systemd does not
// leave out as one more writable directory in another.
func (u *unit) protect(i *instance.Instance, paths []string) {
	var pins []string
	for _, p := range paths {
		tree := base(i, p)
		for dir := filepath.Dir(p); strings.HasPrefix(dir, tree+"/") && tree != ""; dir = filepath.Dir(dir) {
			pins = append(pins, dir)
		}
	}
	slices.Sort(pins)
	for _, dir := range slices.Compact(pins) {
		u.set("ExecPaths", word("-+"+dir))
	}
	for _, p := range paths {
		u.set("ReadOnlyPaths", word("-+"+p))
	}
}

// base is the innermost tree given for writing that a path lies below; "" if none.
func base(i *instance.Instance, path string) string {
	trees := []string{i.Directory, i.StateDir}
	for _, p := range i.Sandbox.ReadWritePaths {
		trees = append(trees, p.Path)
	}
	found := ""
	for _, t := range trees {
		if strings.HasPrefix(path, t+"/") && len(t) > len(found) {
			found = t
		}
	}
	return found
}

// BoundSockets are the allowed sockets that are bound into the instance because it
// does not see them anyway.
func BoundSockets(i *instance.Instance) []string {
	return slices.DeleteFunc(slices.Clone(i.Sandbox.UnixSockets), func(p string) bool { return base(i, p) != "" })
}

// Repository is how git has laid out a project.
type Repository struct {
	File   bool   // .git is a file: the project is a worktree or a submodule
	Common string // then the repository that it belongs to; "" where that cannot be told
}

// Protected are the paths that protect is about: those of the inventory that lie in
// what can be written, and are not given for writing themselves. systemd does not
// take a path below a file, so of a worktree the file .git is protected, and the
// hooks where they are.
func Protected(i *instance.Instance, r Repository) []string {
	git := filepath.Join(i.Directory, ".git")
	var out []string
	add := func(p string) {
		given := func(w instance.Path) bool { return w.Path == p || strings.HasPrefix(w.Path, p+"/") }
		if base(i, p) != "" && !slices.Contains(out, p) && !slices.ContainsFunc(i.Sandbox.ReadWritePaths, given) {
			out = append(out, p)
		}
	}
	for _, p := range i.Sandbox.Protect {
		if r.File && strings.HasPrefix(p, git+"/") {
			rest := strings.TrimPrefix(p, git)
			p = git
			if r.Common != "" {
				add(r.Common + rest)
			}
		}
		add(p)
	}
	slices.Sort(out)
	return out
}
