package schema

import (
	"encoding/json"

	"github.com/google/jsonschema-go/jsonschema"
)

// decode reads the text of a JSON Schema. The library's own decoder, which knows
// every keyword of every draft, takes ten times as long, and a configuration is
// checked in each run of `config build`: it is asked only for a schema that says
// something else than opencode's do.
func decode(text []byte) (*jsonschema.Schema, error) {
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		return nil, err
	}
	d := decoder{}
	if s := d.schema(plain); !d.foreign {
		return s, nil
	}
	var s *jsonschema.Schema
	err := json.Unmarshal(text, &s)
	return s, err
}

type decoder struct {
	foreign bool // something is not understood here
}

func (d *decoder) schema(v any) *jsonschema.Schema {
	switch v := v.(type) {
	case bool:
		if v {
			return &jsonschema.Schema{}
		}
		return &jsonschema.Schema{Not: &jsonschema.Schema{}}
	case map[string]any:
		s := &jsonschema.Schema{}
		for keyword, value := range v {
			d.keyword(s, keyword, value)
		}
		return s
	}
	d.foreign = true
	return nil
}

func (d *decoder) keyword(s *jsonschema.Schema, keyword string, v any) {
	switch keyword {
	case "type":
		s.Type = as[string](d, v)
	case "$ref":
		s.Ref = as[string](d, v)
	case "$schema":
		s.Schema = as[string](d, v)
	case "pattern":
		s.Pattern = as[string](d, v)
	case "description":
		s.Description = as[string](d, v)
	case "title":
		s.Title = as[string](d, v)
	case "enum":
		s.Enum = as[[]any](d, v)
	case "const":
		s.Const = &v
	case "default":
		s.Default, _ = json.Marshal(v) // it came from JSON
	case "required":
		for _, key := range as[[]any](d, v) {
			s.Required = append(s.Required, as[string](d, key))
		}
	case "minimum":
		s.Minimum = limit[float64](d, v)
	case "maximum":
		s.Maximum = limit[float64](d, v)
	case "exclusiveMinimum":
		s.ExclusiveMinimum = limit[float64](d, v)
	case "exclusiveMaximum":
		s.ExclusiveMaximum = limit[float64](d, v)
	case "minItems":
		s.MinItems = limit[int](d, v)
	case "maxItems":
		s.MaxItems = limit[int](d, v)
	case "properties":
		s.Properties = d.schemas(v)
	case "$defs":
		s.Defs = d.schemas(v)
	case "additionalProperties":
		s.AdditionalProperties = d.schema(v)
	case "items":
		s.Items = d.schema(v)
	case "prefixItems":
		s.PrefixItems = d.list(v)
	case "anyOf":
		s.AnyOf = d.list(v)
	case "oneOf":
		s.OneOf = d.list(v)
	default:
		d.foreign = true
	}
}

func (d *decoder) schemas(v any) map[string]*jsonschema.Schema {
	table := as[map[string]any](d, v)
	out := make(map[string]*jsonschema.Schema, len(table))
	for name, s := range table {
		out[name] = d.schema(s)
	}
	return out
}

func (d *decoder) list(v any) []*jsonschema.Schema {
	var out []*jsonschema.Schema
	for _, s := range as[[]any](d, v) {
		out = append(out, d.schema(s))
	}
	return out
}

func as[T any](d *decoder, v any) T {
	out, ok := v.(T)
	if !ok {
		d.foreign = true
	}
	return out
}

func limit[T int | float64](d *decoder, v any) *T {
	n := T(as[float64](d, v))
	return &n
}
