package sandbox

import (
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/instance"
)

// Visible reports whether an instance sees a path of the host, as far as the
// inventory and the layout of its root say: what links lead to is not followed.
func Visible(i *instance.Instance, path string) bool {
	within := func(dir string) bool { return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/") }
	for _, p := range i.Sandbox.InaccessiblePaths {
		inner := func(g instance.Path) bool { return strings.HasPrefix(g.Path, p.Path+"/") && within(g.Path) }
		if within(p.Path) && !slices.ContainsFunc(i.Sandbox.ReadOnlyPaths, inner) && !slices.ContainsFunc(i.Sandbox.ReadWritePaths, inner) {
			return false
		}
	}
	if within(instance.ConfigDir) {
		return i.ConfigLock && path == instance.ConfigDir+"/opencode.json"
	}
	for _, p := range systemPaths {
		if within(strings.TrimPrefix(p, "-")) {
			return true
		}
	}
	given := []string{i.Directory, i.StateDir, i.Opencode}
	for _, list := range [][]instance.Path{i.Sandbox.ReadWritePaths, i.Sandbox.ReadOnlyPaths} {
		for _, p := range list {
			given = append(given, p.Path)
		}
	}
	for _, dir := range given {
		if dir != "" && within(dir) {
			return true
		}
	}
	return strings.HasPrefix(path, "/proc/") || strings.HasPrefix(path, "/dev/") || path == "/dev/null"
}
