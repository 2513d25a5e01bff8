package schema

import (
	"maps"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// Shape is what the schema says of one option.
type Shape struct {
	Key      string   // "agent.*.temperature"; "*" is a name of the user's choice, "[]" an element
	path     []string // the same, key by key: names of key bindings have dots in them
	Types    []string // in words; values in JSON where only those are allowed
	Required bool     // where the table that holds it is written
	Default  string   // as the schema gives it, in JSON; mostly empty
}

// canonical says where a part that the schema uses in several places is spelled
// out; elsewhere it is referred to.
var canonical = map[string]string{"AgentConfig": "agent.*", "PermissionConfig": "permission"}

// Shapes lists every option, in alphabetical order within its table.
func (s *Schema) Shapes() ([]Shape, error) { return s.list() }

func (s *Schema) shapes() ([]Shape, error) {
	root, err := s.load()
	if err != nil {
		return nil, err
	}
	w := walker{root: root, seen: map[string]int{}}
	w.walk(root, nil)
	return w.out, nil
}

// Keys are those that a table knows: Keys("mcp", "*") lists what an MCP server has.
func (s *Schema) Keys(path ...string) []string {
	shapes, err := s.Shapes()
	if err != nil {
		return nil
	}
	prefix := strings.Join(path, ".")
	if prefix != "" {
		prefix += "."
	}
	var out []string
	for _, o := range shapes {
		if rest, ok := strings.CutPrefix(o.Key, prefix); ok && !strings.ContainsAny(rest, ".*") {
			out = append(out, rest)
		}
	}
	return out
}

type walker struct {
	root *jsonschema.Schema
	out  []Shape
	seen map[string]int // index into out

	visit func(key string, s *jsonschema.Schema) // not nil: sees every option
}

func (w *walker) resolve(s *jsonschema.Schema) *jsonschema.Schema {
	return explainer{root: w.root}.resolve(s)
}

func (w *walker) walk(s *jsonschema.Schema, path []string) {
	if s == nil {
		return
	}
	if s.Ref != "" {
		name := strings.TrimPrefix(s.Ref, refPrefix)
		if at, shared := canonical[name]; shared && at != strings.Join(path, ".") {
			return
		}
		if strings.HasPrefix(name, "Permission") && name != "PermissionConfig" || strings.HasPrefix(name, "Binding") {
			return // described with what uses it
		}
		w.walk(w.resolve(s), path)
		return
	}
	for _, a := range slices.Concat(s.AnyOf, s.OneOf) {
		w.walk(a, path)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Properties)) {
		at := append(slices.Clone(path), key)
		w.add(at, s.Properties[key], slices.Contains(s.Required, key))
		w.walk(s.Properties[key], at)
	}
	if a := s.AdditionalProperties; a != nil && a.Not == nil && !anything(a) {
		at := append(slices.Clone(path), "*")
		w.add(at, a, false)
		w.walk(a, at)
	}
	if s.Items != nil && len(path) > 0 {
		at := slices.Clone(path)
		at[len(at)-1] += "[]"
		w.walk(s.Items, at)
	}
}

// anything reports whether a schema says nothing: any value fits.
func anything(s *jsonschema.Schema) bool {
	return s.Ref == "" && s.Type == "" && s.Types == nil && s.AnyOf == nil && s.OneOf == nil && s.Properties == nil && s.Enum == nil
}

func (w *walker) add(path []string, s *jsonschema.Schema, required bool) {
	key := strings.Join(path, ".")
	if w.visit != nil {
		w.visit(key, s)
	}
	if i, ok := w.seen[key]; ok {
		w.out[i].Types = dedupe(append(w.out[i].Types, w.types(s)...))
		w.out[i].Required = w.out[i].Required && required
		return
	}
	w.seen[key] = len(w.out)
	w.out = append(w.out, Shape{Key: key, path: path, Types: w.types(s), Required: required, Default: string(s.Default)})
}

// types puts what a schema allows into words.
func (w *walker) types(s *jsonschema.Schema) []string {
	if s.Ref != "" && strings.HasSuffix(s.Ref, "/AgentConfig") {
		return []string{"an agent"}
	}
	s = w.resolve(s)
	var out []string
	for _, a := range slices.Concat(s.AnyOf, s.OneOf) {
		out = append(out, w.types(a)...)
	}
	switch {
	case values(s) != nil:
		out = append(out, values(s)...)
	case s.Type == "array" && s.Items != nil:
		out = append(out, "a list of "+plural(w.types(s.Items)))
	case s.Type != "":
		out = append(out, typeWords[s.Type])
	}
	return dedupe(out)
}

func plural(words []string) string {
	text := strings.Join(words, " or ")
	switch text {
	case "a string":
		return "strings"
	case "a table of keys":
		return "tables"
	}
	return text
}
