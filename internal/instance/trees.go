package instance

import (
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
)

// tree is a directory of the host with what it is, for messages.
type tree struct{ path, what string }

// systemTrees are visible to every instance and writable by none.
var systemTrees = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/boot", "/dev", "/proc", "/sys", "/nix",
}

// wideTrees hold the things of many; an instance gets what lies below, never one whole.
var wideTrees = []string{
	"/", "/home", "/root", "/srv", "/var", "/var/lib", "/var/log", "/var/run", "/var/cache", "/opt", "/mnt", "/media",
	"/run", "/run/user", "/run/systemd", "/tmp", "/var/tmp",
}

// ownTrees belong to opencoded; i's own state directory is not among them.
func ownTrees(inv *Inventory, i *Instance) []tree {
	trees := []tree{
		{DataDir, "opencoded's own directory"},
		{ConfigDir, "the directory of the inventory"},
		{"/run/opencoded", "opencoded's own directory"},
	}
	if i == nil || !within(i.StateDir, inv.Host.StateRoot) || i.StateDir == inv.Host.StateRoot {
		return append(trees, tree{inv.Host.StateRoot, "the parent of all state directories"})
	}
	return trees
}

// within reports whether p is dir or lies below it.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// related reports whether one of two paths contains the other.
func related(a, b string) bool { return within(a, b) || within(b, a) }

func (c checker) paths() {
	i := c.i
	if i.Directory == "" {
		return
	}
	if related(i.StateDir, i.Directory) {
		c.fail("state_dir", "keep the state outside of the project", "%s and directory %s overlap: the project would hold what the server stores", i.StateDir, i.Directory)
	}
	c.writable("directory", i.Directory)
	c.writable("state_dir", i.StateDir)
	for n, p := range i.Sandbox.ReadWritePaths {
		c.writable(element("sandbox.read_write_paths", n), p.Path)
	}
	for n, p := range i.Sandbox.ReadOnlyPaths {
		c.visible(element("sandbox.read_only_paths", n), p.Path)
	}
	for n, p := range i.Sandbox.InaccessiblePaths {
		if within(i.Directory, p.Path) || within(i.StateDir, p.Path) {
			c.fail(element("sandbox.inaccessible_paths", n), "hide something smaller", "%s would hide the directory or the state of the instance itself", p.Path)
		}
	}
}

// writable refuses what no instance may write.
func (c checker) writable(key, p string) {
	if slices.ContainsFunc(systemTrees, func(t string) bool { return within(p, t) }) {
		c.fail(key, "choose a directory outside of the system", "%s belongs to the system and is the same for all instances", p)
		return
	}
	c.visible(key, p)
}

// visible refuses what no instance may see.
func (c checker) visible(key, p string) {
	if slices.Contains(wideTrees, p) {
		c.fail(key, "name the one directory below it that is meant", "%s holds the things of many", p)
		return
	}
	for _, t := range ownTrees(c.inv, c.i) {
		if related(p, t.path) && !(t.path == c.inv.Host.StateRoot && within(p, c.i.StateDir)) {
			c.fail(key, "choose another", "%s overlaps %s (%s)", p, t.path, t.what)
			return
		}
	}
}

// claim is a tree of the host that an instance gets, with the key that says so.
type claim struct{ key, path string }

func (i *Instance) claims() []claim {
	out := []claim{{"directory", i.Directory}}
	for n, p := range i.Sandbox.ReadWritePaths {
		out = append(out, claim{element("sandbox.read_write_paths", n), p.Path})
	}
	for n, p := range i.Sandbox.ReadOnlyPaths {
		out = append(out, claim{element("sandbox.read_only_paths", n), p.Path})
	}
	return out
}

// checkPairs finds what of one instance another would see.
func checkPairs(inv *Inventory, problems *document.Diagnostics) {
	for _, a := range inv.Instances {
		claims := a.claims()
		for _, b := range inv.Instances {
			if a != b {
				checkPair(a, claims, b, problems)
			}
		}
	}
}

func checkPair(a *Instance, claims []claim, b *Instance, problems *document.Diagnostics) {
	if a.Name < b.Name && related(a.StateDir, b.StateDir) {
		problems.Add(document.Error, b.At("state_dir"), "give each instance a state directory of its own",
			"instances.%s.state_dir: %s overlaps %s of instances.%s", b.Name, b.StateDir, a.StateDir, a.Name)
	}
	for _, c := range claims {
		switch {
		case c.path == "":
		case related(c.path, b.StateDir):
			problems.Add(document.Error, a.At(c.key), "no instance may see the state of another",
				"instances.%s.%s: %s overlaps the state directory of instances.%s (%s)", a.Name, c.key, c.path, b.Name, b.StateDir)
		case c.key == "directory" && c.path == b.Directory:
			if a.Name > b.Name {
				problems.Add(document.Warning, a.At("directory"), "intended if the two work together",
					"instances.%s.directory: %s is also the directory of instances.%s; each can change what the other runs", a.Name, c.path, b.Name)
			}
		case b.Directory != "" && within(b.Directory, c.path):
			problems.Add(document.Warning, a.At(c.key), "intended if the two work together",
				"instances.%s.%s: %s contains the directory of instances.%s (%s)", a.Name, c.key, c.path, b.Name, b.Directory)
		}
	}
}
