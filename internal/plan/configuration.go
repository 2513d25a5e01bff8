package plan

import (
	"io/fs"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/sandbox"
	"github.com/opencoded/opencoded/internal/schema"
)

// Configurations reads, through r, what the configuration of every instance is
// made of, by name.
func Configurations(inv *instance.Inventory, r config.Reader) (map[string]config.Bundle, document.Diagnostics) {
	out := map[string]config.Bundle{}
	var problems document.Diagnostics
	for _, i := range inv.Instances {
		bundle, found := Configuration(inv, i, r)
		out[i.Name] = bundle
		problems.AddAll(found)
	}
	return out, problems
}

// configBase is where an instance sees its configuration directory.
func configBase(i *instance.Instance) string {
	return filepath.Join(i.StateDir, ".config/opencode")
}

// sources are the layers of an instance, or the one file that is used as it is.
func sources(inv *instance.Inventory, i *instance.Instance) []config.Source {
	if i.ConfigFile != "" {
		return []config.Source{{Path: i.ConfigFile, Pos: i.At("config_file"), Verbatim: true}}
	}
	dir := filepath.Dir(inv.Name)
	var out []config.Source
	for _, l := range i.Layers {
		switch {
		case l.Table != nil:
			out = append(out, config.Source{Table: l.Table, Dir: dir, Name: inv.Name})
		case filepath.IsAbs(l.File):
			out = append(out, config.Source{Path: l.File, Pos: l.Pos})
		default:
			out = append(out, config.Source{Path: filepath.Join(dir, l.File), Pos: l.Pos})
		}
	}
	return out
}

// Compose composes the configuration of an instance of what was read.
func Compose(i *instance.Instance, facts Facts) (config.Output, document.Diagnostics) {
	in := config.Input{
		Bundle: facts.Bundles[i.Name], Schemas: schema.Builtin(),
		Visible: func(path string) bool { return sandbox.Visible(i, path) },
		// What is used as it is may be for a newer opencode; it was not written here.
		AllowUnknown: i.ConfigFile != "",
	}
	if s, known := facts.Schemas[i.Opencode]; known {
		in.Schemas = s
	}
	if i.ConfigLock && i.ConfigFile == "" {
		in.Project = i.Directory
	}
	return config.Compose(in)
}

// configuration adds the files of the configuration directory.
func (b *builder) configuration() {
	out, problems := Compose(b.i, b.facts)
	b.problems.AddAll(problems)
	l, a := b.layout, b.t.Account
	own := func(path string, mode fs.FileMode, content string) {
		b.t.Files = append(b.t.Files, File{Path: filepath.Join(l.Config, path), Mode: mode, GID: a.GID, Content: content, Quiet: unreadable(content)})
	}
	content := string(out.Config)
	if b.i.ConfigFile != "" {
		content = string(b.facts.ConfigFiles[b.i.ConfigFile])
	}
	own("opencode.json", 0o640, content)
	// Without it opencode tries to write one and answers every request with 500.
	own(".gitignore", 0o640, "*\n")
	if out.TUI != nil && b.i.ConfigFile == "" {
		own("tui.json", 0o640, string(out.TUI))
	}
	made := map[string]bool{}
	for _, f := range out.Files {
		for _, dir := range parents(f.Path) {
			if !made[dir] {
				made[dir] = true
				b.t.Dirs = append(b.t.Dirs, Dir{Path: filepath.Join(l.Config, dir), Mode: 0o750, GID: a.GID})
			}
		}
		mode := fs.FileMode(0o640)
		if f.Executable {
			mode = 0o750
		}
		own(f.Path, mode, string(f.Content))
	}
	b.t.Tree = l.Config
}

// unreadable says why a file is not shown in a plan; "" means that it is.
func unreadable(content string) string {
	switch {
	case !utf8.ValidString(content) || strings.ContainsRune(content, 0):
		return "not a text, not shown"
	case len(content) > 64<<10:
		return "large, not shown"
	}
	return ""
}

// parents lists the directories above a relative path, the outermost first.
func parents(path string) []string {
	var out []string
	for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
		out = append([]string{dir}, out...)
	}
	return out
}

// CheckConfigurations says what is wrong with the configurations of an
// inventory: the part of Desire that needs no host. What lies outside of the
// inventory's own directory is for r to show or not (config.ErrUnseen).
func CheckConfigurations(inv *instance.Inventory, r config.Reader) document.Diagnostics {
	bundles, problems := Configurations(inv, r)
	if len(problems.Errors()) > 0 {
		return problems
	}
	for _, i := range inv.Instances {
		_, found := Compose(i, Facts{Bundles: bundles})
		problems.AddAll(found)
	}
	return problems
}

// Configuration reads what the configuration of one instance is made of.
func Configuration(inv *instance.Inventory, i *instance.Instance, r config.Reader) (config.Bundle, document.Diagnostics) {
	bundle, problems := config.Load(r, configBase(i), sources(inv, i)...)
	bundle.LayersLast = i.ConfigLock
	return bundle, problems
}
