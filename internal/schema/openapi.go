package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// FromOpenAPI takes the schema of opencode.json out of the description that a
// running opencode gives of its API (GET /doc): the component Config with all
// that it refers to. Descriptions are left out: the reference has its own.
func FromOpenAPI(doc []byte) ([]byte, error) {
	var api struct {
		Components struct {
			Schemas map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(doc, &api); err != nil {
		return nil, fmt.Errorf("not a description of an API: %w", err)
	}
	root, ok := api.Components.Schemas["Config"].(map[string]any)
	if !ok {
		return nil, errors.New("the description of the API has no schema Config (is this opencode 1.x?)")
	}
	e := extractor{from: api.Components.Schemas, defs: map[string]any{}}
	out := e.copy(root, false).(map[string]any)
	if e.missing != "" {
		return nil, fmt.Errorf("the description of the API refers to %s, which it does not have", e.missing)
	}
	out["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	out["$defs"] = e.defs
	text, err := json.MarshalIndent(out, "", " ")
	return append(text, '\n'), err
}

type extractor struct {
	from    map[string]any
	defs    map[string]any
	missing string
}

const componentPrefix = "#/components/schemas/"

// copy copies a part of the description. names says that the keys of a table are
// names of options, not words of JSON Schema.
func (e *extractor) copy(v any, names bool) any {
	switch d := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(d))
		for key, value := range d {
			if text, isText := value.(string); isText && !names {
				switch key {
				case "description", "title":
					continue
				case "$ref":
					out[key] = e.refer(text)
					continue
				}
			}
			out[key] = e.copy(value, key == "properties" && !names)
		}
		return out
	case []any:
		out := make([]any, len(d))
		for i, value := range d {
			out[i] = e.copy(value, false)
		}
		return out
	}
	return v
}

func (e *extractor) refer(ref string) string {
	full := strings.TrimPrefix(ref, componentPrefix)
	name := strings.ReplaceAll(full, ".", "")
	if _, done := e.defs[name]; !done {
		target, ok := e.from[full]
		if !ok {
			e.missing = full
			return ref
		}
		e.defs[name] = nil // breaks cycles
		e.defs[name] = e.copy(target, false)
	}
	return "#/$defs/" + name
}
