package instance

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/lazy"
)

// DefaultProtect are files of a project that programs outside of the sandbox run or
// obey without asking: git its hooks, direnv .envrc, editors their tasks.
var DefaultProtect = []string{".git/hooks", ".envrc", ".vscode", ".idea"}

// breaks are files that git replaces by renaming, with what no longer works once
// they are protected.
var breaks = map[string]string{
	".git":        "git cannot commit, fetch or switch branches",
	".git/config": "git branch -m, git remote add, git config and git push -u fail",
	".git/HEAD":   "git cannot switch branches",
	".git/index":  "git add and git commit fail",
}

// protect reads true, false, or a list of what is protected besides the default.
func protect(r *reader, i *Instance, v *document.Value) {
	if on, ok := v.Data.(bool); ok {
		if i.Sandbox.Protect = nil; on {
			i.Sandbox.Protect = slices.Clone(DefaultProtect)
		}
		return
	}
	list, ok := v.List()
	if !ok {
		r.fail(v.Pos, `write true, false, or a list such as ["Makefile"]`, "expected a boolean or a list, not %s", article(v.Kind()))
		return
	}
	i.Sandbox.Protect = append(slices.Clone(DefaultProtect), elements(r, list, projectPath)...)
}

// projectPath accepts an absolute path, or one relative to the directory.
func projectPath(v *document.Value) (string, error) {
	s, err := line(v)
	if err != nil || strings.HasPrefix(s, "/") {
		return path(v)
	}
	if slices.Contains(strings.Split(s, "/"), "..") {
		return "", refuse("write the path without ..", "%q climbs with ..", s)
	}
	if _, err := path(&document.Value{Pos: v.Pos, Data: "/" + s}); err != nil {
		return "", err
	}
	if s = filepath.Clean(s); s == "." {
		return "", refuse("name what of it", "is the whole project")
	}
	return s, nil
}

// protected warns of what has no effect, or more than was meant.
func (c checker) protected() {
	writable := []string{c.i.Directory, c.i.StateDir}
	for _, p := range c.i.Sandbox.ReadWritePaths {
		writable = append(writable, p.Path)
	}
	for n, p := range c.i.Sandbox.Protect[min(len(DefaultProtect), len(c.i.Sandbox.Protect)):] {
		key := element("sandbox.protect", n)
		below := func(dir string) bool { return dir != "" && p != dir && within(p, dir) }
		rel, _ := filepath.Rel(c.i.Directory, p) // both are absolute
		what, known := breaks[rel]
		switch {
		case slices.Contains(writable, p):
			c.fail(key, "use sandbox.read_only_paths", "%s is given for writing as a whole", p)
		case !slices.ContainsFunc(writable, below):
			c.warn(key, "remove it", "has no effect: nothing of %s can be written", p)
		case known:
			c.warn(key, "keep it if that is meant", "%s is protected: %s", p, what)
		}
	}
}

// A credential is a file name, and ends at the colon that follows it.
var credentialRule = lazy.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}$`)

// credentials reads { name = "path" }.
func credentials(encrypted bool) func(*reader, *Instance, *document.Value) {
	return func(r *reader, i *Instance, v *document.Value) {
		t := v.Table()
		if t == nil {
			r.fail(v.Pos, "write "+r.key+` = { NAME = "/path" }`, "expected a table, not %s", article(v.Kind()))
			return
		}
		i.Credentials = slices.DeleteFunc(i.Credentials, func(c Credential) bool { return c.Encrypted == encrypted })
		for e := range t.All() {
			at := *r
			at.key = r.key + "." + document.Join(e.Key)
			switch p, ok := take(&at, e.Value, path); {
			case !credentialRule.MatchString(e.Key):
				at.fail(e.KeyPos, "use letters, digits, _, - and .", "%q is not a name for a credential", e.Key)
			case slices.ContainsFunc(i.Credentials, func(c Credential) bool { return c.Name == e.Key }):
				at.fail(e.KeyPos, "rename one", "there are two credentials %q", e.Key)
			case ok:
				r.keys.set(at.key, e.Value.Pos)
				i.Credentials = append(i.Credentials, Credential{Name: e.Key, Path: p, Encrypted: encrypted})
			}
		}
	}
}

// Key is where an inventory names the credential.
func (c Credential) Key() string {
	if c.Encrypted {
		return "encrypted_credentials." + document.Join(c.Name)
	}
	return "credentials." + document.Join(c.Name)
}
