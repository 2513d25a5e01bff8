package config

import (
	"slices"

	"github.com/opencoded/opencoded/internal/document"
)

// Setting is what one layer does to a value.
type Setting struct {
	Pos   document.Pos
	Text  string // the value as this layer leaves it, in JSON; "" where it is gone
	Final bool   // later layers leave it so
}

// Explain says which layers had a hand in the value of a key, the earliest first,
// and how it ends; the value is nil when nothing sets it. A key that a table
// holds counts as the table's own.
func (b Bundle) Explain(path []string) ([]Setting, *document.Value) {
	var settings []Setting
	var before *document.Value
	for _, tui := range []bool{false, true} {
		layers := tables(b.layers, tui)
		before = nil
		for i := range layers {
			now := Merge(layers[:i+1]...).Lookup(path...)
			if same(before, now) && layers[i].Lookup(path...) == nil {
				continue
			}
			pos := document.Pos{}
			if at := mention(layers[i], path); at != nil {
				pos = at.Pos
			}
			settings = append(settings, Setting{Pos: pos, Text: textOf(now)})
			before = now
		}
		if len(settings) > 0 {
			break
		}
	}
	if n := len(settings); n > 0 {
		settings[n-1].Final = true
	}
	return settings, before
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
