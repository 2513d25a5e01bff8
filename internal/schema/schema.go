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
	"encoding/json"
	"errors"
	"fmt"
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
	load func() (compiled, error)
}

type compiled struct {
	root     *jsonschema.Schema
	resolved *jsonschema.Resolved
}

// New makes a schema of the text of a JSON Schema for the named file.
func New(file string, text []byte) *Schema {
	return &Schema{file: file, text: text, load: sync.OnceValues(func() (compiled, error) {
		var c compiled
		err := json.Unmarshal(text, &c.root)
		if err == nil {
			c.resolved, err = c.root.Resolve(nil)
		}
		if err != nil {
			err = fmt.Errorf("cannot read the schema of %s: %w", file, err)
		}
		return c, err
	})}
}

// Text is the JSON Schema as it was given.
func (s *Schema) Text() []byte { return s.text }

// Valid returns an error when the text is not a schema.
func (s *Schema) Valid() error {
	_, err := s.load()
	return err
}

// Check says what is wrong with a document. References to the environment and
// to files ({env:NAME}, {file:path}) are filled in by opencode when it starts:
// where one stands in a string, any string is taken to fit.
func (s *Schema) Check(t *document.Table) ([]Violation, error) {
	c, err := s.load()
	if err != nil {
		return nil, err
	}
	judgement := c.resolved.Validate(plain(&document.Value{Data: t}))
	if judgement == nil {
		return nil, nil
	}
	e := explainer{file: s.file, root: c.root}
	found := e.explain(c.root, &document.Value{Data: t}, nil)
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
