package config

import (
	"bytes"
	"slices"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/schema"
)

// Merge lays layers over each other, the earliest first, and returns what they
// say together. Every value keeps the place in the layer that set it.
//
// Objects merge key by key, in depth; an overridden key keeps its place and a
// new one comes last, because order is meaning (in a permission map the last
// matching rule wins). Scalars, and values of another type, replace. Lists that
// are sets by meaning (schema.IsSet) unite without repeats, other lists replace;
// {"$append": […]} and {"$replace": …} say otherwise. null removes what earlier
// layers set; an object that only nulls left empty goes with it.
//
// The layers are not changed. The empty layer changes nothing, and it does not
// matter which neighbours are merged first: both hold under fuzzing.
func Merge(layers ...*document.Table) *document.Table {
	whole := patch{kind: object}
	for _, l := range layers {
		whole = compose(whole, readObject(l, make([]string, 0, 16)))
	}
	v, _ := whole.resolve()
	return v.Table()
}

// patch is what one layer, or several that were composed, does to a value that
// earlier layers may have set.
type patch struct {
	kind   effect
	pos    document.Pos
	value  *document.Value // kind replace
	extend []extension     // kind extend
	fields []patchField    // kind object
	fresh  bool            // kind object: what earlier layers set is gone
}

type effect int

const (
	remove  effect = iota // null: takes the value away
	replace               // puts another in its place, whatever it was
	extend                // adds to a list
	object                // changes some keys
)

// extension is an element to be added; a unique one only if it is not there.
type extension struct {
	value  *document.Value
	unique bool
}

type patchField struct {
	key    string
	keyPos document.Pos
	patch  patch
}

func readObject(t *document.Table, path []string) patch {
	p := patch{kind: object, fields: make([]patchField, 0, t.Len())}
	for e := range t.All() {
		// The next key overwrites this one: nothing keeps a path.
		p.fields = append(p.fields, patchField{e.Key, e.KeyPos, readValue(e.Value, append(path, e.Key))})
	}
	return p
}

func readValue(v *document.Value, path []string) patch {
	p := patch{kind: replace, pos: v.Pos, value: v}
	switch d := v.Data.(type) {
	case document.Null:
		p = patch{kind: remove, pos: v.Pos}
	case []*document.Value:
		if schema.IsSet(path) {
			p = patch{kind: extend, pos: v.Pos, extend: extensions(d, true)}
		}
	case *document.Table:
		if list, ok := directive(d, "$append"); ok {
			if elements, ok := list.List(); ok {
				return patch{kind: extend, pos: v.Pos, extend: extensions(elements, false)}
			}
		}
		if whole, ok := directive(d, "$replace"); ok {
			if t := whole.Table(); t != nil {
				p = readObject(t, path)
				p.fresh = true
			} else {
				p = patch{kind: replace, value: whole}
			}
			p.pos = whole.Pos
			return p
		}
		p = readObject(d, path)
		p.pos = v.Pos
	}
	return p
}

// directive reads a table that holds one key and nothing else.
func directive(t *document.Table, key string) (*document.Value, bool) {
	v := t.Get(key)
	return v, v != nil && t.Len() == 1
}

func extensions(list []*document.Value, unique bool) []extension {
	out := make([]extension, len(list))
	for i, v := range list {
		out[i] = extension{v, unique}
	}
	return out
}

// compose returns the patch that does what before and then after do.
func compose(before, after patch) patch {
	switch after.kind {
	case extend:
		switch before.kind {
		case extend:
			after.extend = slices.Concat(before.extend, after.extend)
			return after
		case replace:
			list, _ := before.value.List()
			return after.onto(list) // of another type: the list replaces it
		default:
			return after.onto(nil)
		}
	case object:
		if after.fresh {
			return after
		}
		if before.kind != object {
			after.fresh = true
			return after
		}
		return composeFields(before, after)
	default:
		return after
	}
}

func composeFields(before, after patch) patch {
	out := patch{kind: object, pos: after.pos, fresh: before.fresh, fields: slices.Clone(before.fields)}
	if len(out.fields) == 0 {
		out.fields = after.fields // the keys of one object differ
		return out
	}
	at := make(map[string]int, len(out.fields))
	for i, f := range out.fields {
		at[f.key] = i
	}
	for _, f := range after.fields {
		if i, ok := at[f.key]; ok {
			f.patch = compose(out.fields[i].patch, f.patch)
			out.fields[i] = f
			continue
		}
		at[f.key] = len(out.fields)
		out.fields = append(out.fields, f)
	}
	return out
}

// onto turns an extension of a known list into that list, extended.
func (p patch) onto(list []*document.Value) patch {
	out := slices.Clone(list)
	for _, e := range p.extend {
		if !e.unique || !slices.ContainsFunc(out, func(v *document.Value) bool { return equal(v, e.value) }) {
			out = append(out, e.value)
		}
	}
	return patch{kind: replace, pos: p.pos, value: &document.Value{Pos: p.pos, Data: out}}
}

// equal compares what two values say, not where they stand.
func equal(a, b *document.Value) bool {
	var x, y bytes.Buffer
	compact(&x, a)
	compact(&y, b)
	return bytes.Equal(x.Bytes(), y.Bytes())
}

// resolve applies a patch to nothing. The second result is false when nothing is
// left of it.
func (p patch) resolve() (*document.Value, bool) {
	switch p.kind {
	case remove:
		return nil, false
	case replace:
		return p.value.Clone(), true
	case extend:
		return p.onto(nil).resolve()
	}
	t := &document.Table{}
	emptied := false
	for _, f := range p.fields {
		v, ok := f.patch.resolve()
		if !ok {
			emptied = true
			continue
		}
		t.Set(document.Entry{Key: f.key, KeyPos: f.keyPos, Value: v})
	}
	return &document.Value{Pos: p.pos, Data: t}, t.Len() > 0 || !emptied
}
