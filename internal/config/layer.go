package config

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/schema"
)

// Source is a layer that is yet to be read: a file, or a table that stands in
// another file (the config of an inventory).
type Source struct {
	Path  string          // of a file; messages name it so
	Table *document.Table // instead of a file
	Dir   string          // of a table: what relative paths in it mean
	Name  string          // of a table: what its copied files are filed under
	Pos   document.Pos    // where the file is named, for messages about the naming

	// Original is the absolute form of the directory that relative paths mean, for
	// references to files that are not copied; "" where Dir or Path are absolute.
	Original string

	// Verbatim is for a file that opencode will read as it stands, in another
	// place: nothing in it is rewritten.
	Verbatim bool
}

// layer is a source that was read.
type layer struct {
	name  string // as messages call it
	dir   string // what relative paths in it mean, as messages call it
	orig  string // the same, absolute
	stem  string // what its copied files are filed under
	tui   bool   // keys of tui.json instead of opencode.json
	table *document.Table

	verbatim bool
}

// ParseFile reads a file of keys: TOML by its ending, JSON with comments
// otherwise.
func ParseFile(name string, data []byte) (*document.Table, document.Diagnostics) {
	if path.Ext(name) == ".toml" {
		return document.ParseTOML(name, data)
	}
	return document.ParseJSON(name, data)
}

// IsTUI reports whether a file holds keys of tui.json, which its name says.
func IsTUI(name string) bool {
	base := filepath.Base(name)
	return strings.TrimSuffix(base, filepath.Ext(base)) == "tui"
}

// stems are names for layers, for their copied files: one for each file, by what
// messages call it.
type stems map[string]string

func (s stems) take(name string) string {
	if stem, ok := s[name]; ok {
		return stem
	}
	base := filepath.Base(name)
	stem := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '-'
	}, strings.TrimSuffix(base, filepath.Ext(base)))
	taken := slices.Collect(maps.Values(s))
	for n := 2; slices.Contains(taken, stem); n++ {
		stem = fmt.Sprintf("%s-%d", strings.TrimRight(stem, "-0123456789"), n)
	}
	s[name] = stem
	return stem
}

// split takes apart what a layer says of the two files: keys that moved to
// tui.json become a layer of their own.
func (l layer) split(problems *document.Diagnostics) []layer {
	if l.tui {
		return []layer{l}
	}
	terminal := &document.Table{}
	for _, key := range []string{"theme", "keybinds", "tui"} {
		e, ok := l.table.Entry(key)
		if !ok {
			continue
		}
		problems.Add(document.Note, e.KeyPos, "", "%s belongs to %s since opencode 1.18, and is written there", key, schema.TUIFile)
		l.table.Delete(key)
		if inner := e.Value.Table(); key == "tui" && inner != nil {
			for e := range inner.All() {
				terminal.Set(e)
			}
			continue
		}
		terminal.Set(e)
	}
	if terminal.Len() == 0 {
		return []layer{l}
	}
	return []layer{l, {name: l.name, dir: l.dir, stem: l.stem, tui: true, table: terminal}}
}

func tables(layers []layer, tui bool) []*document.Table {
	var out []*document.Table
	for _, l := range layers {
		if l.tui == tui {
			out = append(out, l.table)
		}
	}
	return out
}

// below returns a path one key longer, without touching the original.
func below(path []string, keys ...string) []string { return append(slices.Clone(path), keys...) }
