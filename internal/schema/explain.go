package schema

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/opencoded/opencoded/internal/document"
)

// Fault is the kind of a violation.
type Fault int

// The kinds.
const (
	Unknown Fault = iota // a key that opencode does not know, and would drop
	Missing              // a key that must be there
	WrongType
	NotOneOf // a value that is none of those allowed
	OutOfRange
)

// Violation is one reason why a document is not valid.
type Violation struct {
	Path    []string // to the value; of a key that is missing, to where it belongs
	Pos     document.Pos
	Fault   Fault
	Instead string // the key or value that was meant without doubt; mostly empty
	Message string
	Hint    string // the remedy; may be empty

	found    string   // what stands there, as JSON
	literals []string // values that would fit, as JSON
	forms    []string // types of the schema, or patterns, that would fit
	pending  bool     // known only once opencode has filled in {env:…} or {file:…}
}

// explainer finds the reasons for what the library has rejected. It knows the
// keywords that opencode's schemas use; another one is the library's to enforce,
// and its words are printed.
type explainer struct {
	file string
	root *jsonschema.Schema
}

func (e explainer) resolve(s *jsonschema.Schema) *jsonschema.Schema {
	for s != nil && s.Ref != "" {
		s = e.root.Defs[strings.TrimPrefix(s.Ref, refPrefix)]
	}
	return s
}

func (e explainer) explain(s *jsonschema.Schema, v *document.Value, path []string) []Violation {
	s = e.resolve(s)
	if s == nil {
		return nil
	}
	if alternatives := slices.Concat(s.AnyOf, s.OneOf); len(alternatives) > 0 {
		var branches [][]Violation
		for _, a := range alternatives {
			found := e.explain(a, v, path)
			if len(found) == 0 {
				return nil
			}
			branches = append(branches, found)
		}
		return choose(branches, v, path)
	}
	if s.Type != "" && !fits(s.Type, v) {
		return []Violation{wrongType(v, path, []string{s.Type})}
	}
	if allowed := values(s); allowed != nil {
		if text, ok := scalarText(v); !ok || !slices.Contains(allowed, text) {
			return []Violation{notOneOf(v, path, allowed)}
		}
	}
	out := limits(s, v, path)
	switch d := v.Data.(type) {
	case *document.Table:
		out = append(out, e.object(s, d, v.Pos, path)...)
	case []*document.Value:
		for i, element := range d {
			below := append(slices.Clone(path), strconv.Itoa(i))
			switch {
			case i < len(s.PrefixItems):
				out = append(out, e.explain(s.PrefixItems[i], element, below)...)
			case s.Items != nil:
				out = append(out, e.explain(s.Items, element, below)...)
			}
		}
	}
	return out
}

func (e explainer) object(s *jsonschema.Schema, t *document.Table, pos document.Pos, path []string) []Violation {
	var out []Violation
	for _, key := range s.Required {
		if t.Get(key) == nil {
			out = append(out, Violation{Path: append(slices.Clone(path), key), Pos: pos, Fault: Missing,
				Message: fmt.Sprintf("%s: %q is missing", e.place(path), key), Hint: missingHint(e.resolve(s.Properties[key]), key)})
		}
	}
	closed := s.AdditionalProperties != nil && s.AdditionalProperties.Not != nil
	for entry := range t.All() {
		below := append(slices.Clone(path), entry.Key)
		if p, known := s.Properties[entry.Key]; known {
			out = append(out, e.explain(p, entry.Value, below)...)
			continue
		}
		if closed {
			out = append(out, e.unknown(s, entry, path, below))
		} else if s.AdditionalProperties != nil {
			out = append(out, e.explain(s.AdditionalProperties, entry.Value, below)...)
		}
	}
	return out
}

// unknown is the violation that matters most: opencode drops such a key without
// a word, so that a misspelt policy is no policy.
func (e explainer) unknown(s *jsonschema.Schema, entry document.Entry, path, below []string) Violation {
	known := slices.Sorted(maps.Keys(s.Properties))
	v := Violation{Path: below, Pos: entry.KeyPos, Fault: Unknown,
		Instead: document.Unmistakable(entry.Key, known), Message: fmt.Sprintf("unknown key %q in %s", entry.Key, e.place(path))}
	remedy, instead := foreignKey(path, entry.Key)
	near := document.Nearest(entry.Key, known)
	switch {
	case remedy != "":
		v.Instead, v.Hint = instead, remedy
	case near != "":
		v.Hint = fmt.Sprintf("did you mean %q?", near)
	case len(known) <= 12:
		v.Hint = "it knows " + strings.Join(known, ", ")
	default:
		v.Hint = "see opencoded config options"
	}
	return v
}

// place names where something stands; the root is the file itself.
func (e explainer) place(path []string) string {
	if len(path) == 0 {
		return e.file
	}
	return document.Join(path...)
}

// choose picks, of the alternatives that a value fits none of, the one that was
// most likely meant, and returns its violations.
func choose(branches [][]Violation, v *document.Value, path []string) []Violation {
	// Of another type altogether, or none of the listed values: one sentence says
	// what would fit.
	about := func(b []Violation) bool {
		return len(b) == 1 && len(b[0].Path) == len(path) && b[0].Fault != Missing && b[0].Fault != Unknown
	}
	deeper := slices.DeleteFunc(slices.Clone(branches), about)
	if len(deeper) == 0 {
		return []Violation{combine(branches, v)}
	}
	// A key such as "type" tells alternatives apart: one that allows its value was meant.
	told := deeper
	for _, b := range deeper {
		for _, n := range b {
			if n.Fault == NotOneOf && len(n.Path) == len(path)+1 {
				told = slices.DeleteFunc(slices.Clone(told), func(b []Violation) bool {
					return slices.ContainsFunc(b, func(o Violation) bool {
						return (o.Fault == NotOneOf || o.Fault == Unknown) && slices.Equal(o.Path, n.Path)
					})
				})
			}
		}
	}
	if len(told) > 0 {
		return eitherMissing(told, slices.MinFunc(told, fewer))
	}
	best := slices.Clone(slices.MinFunc(deeper, fewer))
	for i, n := range best {
		if n.Fault != NotOneOf {
			continue
		}
		for _, b := range deeper {
			for _, o := range b {
				if o.Fault == NotOneOf && slices.Equal(o.Path, n.Path) {
					best[i].literals = dedupe(append(slices.Clone(best[i].literals), o.literals...))
				}
			}
		}
		best[i].describe()
	}
	return best
}

// eitherMissing is for alternatives that each want one more key: all are named.
func eitherMissing(told [][]Violation, best []Violation) []Violation {
	if len(best) != 1 || best[0].Fault != Missing {
		return best
	}
	var keys []string
	for _, b := range told {
		if len(b) == 1 && b[0].Fault == Missing && len(b[0].Path) == len(best[0].Path) {
			keys = append(keys, strconv.Quote(b[0].Path[len(b[0].Path)-1]))
		}
	}
	if len(keys) > 1 {
		out := best[0]
		out.Message = fmt.Sprintf("%s: %s is missing", document.Join(out.Path[:len(out.Path)-1]...), strings.Join(dedupe(keys), " or "))
		out.Hint = "write one of them"
		return []Violation{out}
	}
	return best
}

func fewer(a, b []Violation) int { return len(a) - len(b) }

// combine makes one violation of alternatives that each refuse the value itself.
func combine(branches [][]Violation, v *document.Value) Violation {
	out := branches[0][0]
	out.literals, out.forms = nil, nil
	typesOnly := true
	for _, b := range branches {
		if b[0].Fault == OutOfRange && b[0].forms == nil {
			return b[0] // of the right type, and only too much or too little
		}
		out.literals = dedupe(append(out.literals, b[0].literals...))
		out.forms = dedupe(append(out.forms, b[0].forms...))
		out.pending = out.pending || b[0].pending
		if b[0].Fault != WrongType {
			typesOnly = false
			out.Fault = b[0].Fault
		}
	}
	if typesOnly {
		return wrongType(v, out.Path, out.forms)
	}
	out.found, _ = scalarText(v)
	out.describe()
	return out
}

func dedupe(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
