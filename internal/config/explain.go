package config

import (
	"slices"

	"github.com/opencoded/opencoded/internal/document"
)

// Setting is what one layer does to a value.
type Setting struct {
	Pos   document.Pos
	Named document.Pos // where a layer names the file of Pos, of an agent or a command; zero of any other
	Text  string       // the value as this layer leaves it, in JSON; "" where it is gone
	Final bool         // it is the value in the end
}

// Explain says which layers had a hand in the value of a key, the earliest first,
// and how it ends; the value is nil when nothing sets it. A key that a table
// holds counts as the table's own. Agents and commands in files have a hand in
// agent and command.
func (b Bundle) Explain(path []string) ([]Setting, *document.Value) {
	for _, tui := range []bool{false, true} {
		e := explanation{path: path, layersLast: b.LayersLast}
		for i, l := range b.layers {
			for _, n := range b.named {
				if n.layer == i && !tui {
					e.file(n)
				}
			}
			if l.tui == tui {
				e.layer(l.table)
			}
		}
		if len(e.settings) > 0 {
			return e.end()
		}
	}
	return nil, nil
}

// explanation follows one key through the layers.
type explanation struct {
	path       []string
	layersLast bool

	tables   []*document.Table // of the layers so far
	files    document.Table    // what the files so far say, as opencode.json would
	settings []Setting
	values   []*document.Value // what each setting says by itself
}

func (e *explanation) fromLayers() *document.Value { return Merge(e.tables...).Lookup(e.path...) }

// now is the value as opencode puts it together.
func (e *explanation) now() *document.Value {
	layers := Merge(e.tables...)
	if e.layersLast {
		return document.Merge(&e.files, layers).Lookup(e.path...)
	}
	return document.Merge(layers, &e.files).Lookup(e.path...)
}

func (e *explanation) layer(t *document.Table) {
	before := e.fromLayers()
	e.tables = append(e.tables, t)
	own := e.fromLayers()
	if same(before, own) && t.Lookup(e.path...) == nil {
		return
	}
	pos := document.Pos{}
	if at := mention(t, e.path); at != nil {
		pos = at.Pos
	}
	e.add(Setting{Pos: pos}, own)
}

func (e *explanation) file(n naming) {
	if n.kind.under == "" {
		return
	}
	before := e.files.Clone().Lookup(e.path...)
	group := child(&e.files, n.kind.under, document.Entry{KeyPos: n.pos, Value: &document.Value{Pos: n.pos}})
	group.Delete(n.name)
	if n.file != nil {
		top := document.Pos{File: n.file.file, Line: 1, Column: 1}
		group.Set(document.Entry{Key: n.name, KeyPos: n.pos, Value: &document.Value{Pos: top, Data: n.file.table()}})
	}
	if group.Len() == 0 {
		e.files.Delete(n.kind.under)
	}
	own := e.files.Lookup(e.path...)
	if same(before, own) {
		return
	}
	s := Setting{Pos: n.pos}
	if named := n.kind.under == e.path[0] && len(e.path) > 1; named && own != nil {
		s = Setting{Pos: own.Pos, Named: n.pos}
	}
	e.add(s, own)
}

// add says of a table what is there in all, of any other value what this layer
// or file says.
func (e *explanation) add(s Setting, own *document.Value) {
	s.Text = textOf(own)
	if now := e.now(); now.Table() != nil {
		s.Text = textOf(now)
	}
	e.settings, e.values = append(e.settings, s), append(e.values, own)
}

// end finds the setting that counts: the last that says what is there in the end.
func (e *explanation) end() ([]Setting, *document.Value) {
	final := e.now()
	last := len(e.settings) - 1
	for i := last; i >= 0 && final.Table() == nil; i-- {
		if same(e.values[i], final) {
			last = i
			break
		}
	}
	e.settings[last].Final = true
	return e.settings, final
}

// same compares values with where they were set.
func same(a, b *document.Value) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Pos == b.Pos && Text(a) == Text(b)
}

func textOf(v *document.Value) string {
	if v == nil {
		return ""
	}
	return Text(v)
}

// mention is the value of the path in a layer, or of the key above it that
// decides: a null or a $replace.
func mention(t *document.Table, path []string) *document.Value {
	for n := len(path); n > 0; n-- {
		if v := t.Lookup(path[:n]...); v != nil {
			return v
		}
	}
	return nil
}

// Leaf is a value that is no table, with its path.
type Leaf struct {
	Path  []string
	Value *document.Value
}

// Leaves lists what a value holds, in order. Lists, and tables that hold
// nothing, are leaves themselves.
func Leaves(v *document.Value, path []string) []Leaf {
	t := v.Table()
	if t.Len() == 0 {
		return []Leaf{{path, v}}
	}
	var out []Leaf
	for e := range t.All() {
		out = append(out, Leaves(e.Value, below(path, e.Key))...)
	}
	return out
}

// Merged is what the layers say together of opencode.json and of tui.json,
// before anything is checked or added.
func (b Bundle) Merged() (main, terminal *document.Table) {
	return Merge(tables(b.layers, false)...), Merge(tables(b.layers, true)...)
}

// Change is a difference of two configurations.
type Change struct {
	Path      []string
	Old, New  *document.Value // nil where there is none
	Reordered bool            // the same keys in another order, which is meaning in permissions
}

// Diff lists what b says differently from a, in the order of a, then what only b
// says.
func Diff(a, b *document.Table) []Change { return diff(a, b, nil) }

func diff(a, b *document.Table, path []string) []Change {
	var out []Change
	var common [2][]string
	for e := range a.All() {
		at := below(path, e.Key)
		other := b.Get(e.Key)
		switch {
		case other == nil:
			for _, l := range Leaves(e.Value, at) {
				out = append(out, Change{Path: l.Path, Old: l.Value})
			}
			continue
		case e.Value.Table() != nil && other.Table() != nil:
			out = append(out, diff(e.Value.Table(), other.Table(), at)...)
		case !equal(e.Value, other):
			out = append(out, Change{Path: at, Old: e.Value, New: other})
		}
		common[0] = append(common[0], e.Key)
	}
	for e := range b.All() {
		if a.Get(e.Key) != nil {
			common[1] = append(common[1], e.Key)
			continue
		}
		for _, l := range Leaves(e.Value, below(path, e.Key)) {
			out = append(out, Change{Path: l.Path, New: l.Value})
		}
	}
	if slices.Contains(path, "permission") && !slices.Equal(common[0], common[1]) {
		out = append(out, Change{Path: path, Old: &document.Value{Data: a}, New: &document.Value{Data: b}, Reordered: true})
	}
	return out
}
