// Package schema knows which keys and values opencode accepts in opencode.json
// and tui.json, version by version, and says of a document what is wrong with it
// and where.
//
// It decides validity, with a JSON Schema library, and nothing else: how layers
// are merged, what is accepted but surely not meant and what is written is
// internal/config. It also holds the reference of all options, in this project's
// own words, and reads schemas out of opencode's API description. It never asks
// the host for a file or a program.
package schema

import (
	"embed"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/opencoded/opencoded/internal/document"
)

// BuiltinVersion is the version of opencode whose schemas are part of opencoded.
const BuiltinVersion = "1.18.33"

// Names of the two kinds of files, as opencode looks for them.
const (
	ConfigFile = "opencode.json"
	TUIFile    = "tui.json"
)

// URLs are the values of $schema, by the name of the file.
var URLs = map[string]string{
	ConfigFile: "https://opencode.ai/config.json",
	TUIFile:    "https://opencode.ai/tui.json",
}

//go:embed builtin/*.schema.json
var builtin embed.FS

// Set is what one version of opencode accepts.
type Set struct {
	Version string
	Config  *Schema // of opencode.json
	TUI     *Schema // of tui.json
}

// Builtin returns the schemas of BuiltinVersion.
var Builtin = sync.OnceValue(func() Set {
	s := Set{Version: BuiltinVersion}
	for name, into := range map[string]**Schema{"config": &s.Config, "tui": &s.TUI} {
		text, err := builtin.ReadFile("builtin/" + name + ".schema.json")
		if err != nil {
			panic(err) // it is part of the program
		}
		*into = New(fileOf[name], text)
	}
	return s
})

var fileOf = map[string]string{"config": ConfigFile, "tui": TUIFile}

// Schema is one JSON Schema. It is read when it is first needed: most commands
// need none.
type Schema struct {
	file string // what it describes: opencode.json or tui.json
	text []byte
	load func() (*jsonschema.Schema, error)
	list func() ([]Shape, error)
}

// New makes a schema of the text of a JSON Schema for the named file.
func New(file string, text []byte) *Schema {
	s := &Schema{file: file, text: text}
	s.list = sync.OnceValues(s.shapes)
	s.load = sync.OnceValues(func() (*jsonschema.Schema, error) {
		root, err := decode(text)
		if err != nil {
			return nil, fmt.Errorf("cannot read the schema of %s: %w", file, err)
		}
		return root, nil
	})
	return s
}

// Text is the JSON Schema as it was given.
func (s *Schema) Text() []byte { return s.text }

// Valid returns an error when the text is not a schema.
func (s *Schema) Valid() error {
	root, err := s.load()
	if err == nil {
		_, err = root.Resolve(nil)
	}
	if err != nil {
		return fmt.Errorf("cannot read the schema of %s: %w", s.file, err)
	}
	return nil
}

// Check says what is wrong with a document. References to the environment and
// to files ({env:NAME}, {file:path}) are filled in by opencode when it starts:
// where one stands in a string, any string is taken to fit.
func (s *Schema) Check(t *document.Table) ([]Violation, error) {
	root, err := s.load()
	if err != nil {
		return nil, err
	}
	judge, err := part(root, t).Resolve(nil)
	if err != nil {
		return nil, fmt.Errorf("cannot read the schema of %s: %w", s.file, err)
	}
	judgement := judge.Validate(plain(&document.Value{Data: t}))
	if judgement == nil {
		return nil, nil
	}
	e := explainer{file: s.file, root: root}
	found := e.explain(root, &document.Value{Data: t}, nil)
	if len(found) == 0 {
		// The library and the explainer differ: its own words are better than none.
		return nil, errors.New(judgement.Error())
	}
	out := make([]Violation, 0, len(found))
	for _, v := range found {
		if !v.pending {
			out = append(out, v)
		}
	}
	return out, nil
}

// part is what of a schema concerns a document: the library takes its time to
// prepare a schema, and most configurations use a few of forty sections.
func part(root *jsonschema.Schema, t *document.Table) *jsonschema.Schema {
	out := *root
	out.Properties, out.Defs = map[string]*jsonschema.Schema{}, map[string]*jsonschema.Schema{}
	for key, s := range root.Properties {
		if t.Get(key) != nil {
			out.Properties[key] = s
			keepReferred(root, s, out.Defs)
		}
	}
	for _, key := range root.Required {
		out.Properties[key] = root.Properties[key]
		keepReferred(root, root.Properties[key], out.Defs)
	}
	keepReferred(root, root.AdditionalProperties, out.Defs)
	return &out
}

// keepReferred adds the definitions that a schema refers to, and theirs.
func keepReferred(root, s *jsonschema.Schema, into map[string]*jsonschema.Schema) {
	if s == nil {
		return
	}
	if name, isRef := strings.CutPrefix(s.Ref, refPrefix); isRef && into[name] == nil && root.Defs[name] != nil {
		into[name] = root.Defs[name]
		keepReferred(root, root.Defs[name], into)
	}
	for below := range children(s) {
		keepReferred(root, below, into)
	}
}

const refPrefix = "#/$defs/"

// children are the schemas that stand directly in one.
func children(s *jsonschema.Schema) iter.Seq[*jsonschema.Schema] {
	return func(yield func(*jsonschema.Schema) bool) {
		for _, list := range [][]*jsonschema.Schema{s.AnyOf, s.OneOf, s.AllOf, s.PrefixItems, {s.Items, s.AdditionalProperties, s.Not}} {
			for _, below := range list {
				if below != nil && !yield(below) {
					return
				}
			}
		}
		for _, below := range s.Properties {
			if !yield(below) {
				return
			}
		}
		for _, below := range s.PatternProperties {
			if !yield(below) {
				return
			}
		}
	}
}

// plain turns a document into what the library reads.
func plain(v *document.Value) any {
	switch d := v.Data.(type) {
	case *document.Table:
		out := make(map[string]any, d.Len())
		for e := range d.All() {
			out[e.Key] = plain(e.Value)
		}
		return out
	case []*document.Value:
		out := make([]any, len(d))
		for i, e := range d {
			out[i] = plain(e)
		}
		return out
	case document.Null:
		return nil
	default:
		return d
	}
}
