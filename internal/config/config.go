// Package config composes opencode's own configuration file, opencode.json.
//
// It decides what the file says and how it is written: `$schema` first, keys in
// the order in which they were given (in a permission map the last matching rule
// wins), the same bytes for the same input. It does not decide where the file
// lives or who may change it; that is internal/plan and internal/sandbox.
package config

import (
	"github.com/opencoded/opencoded/internal/document"
)

// Schema is the value of `$schema`. opencode rewrites a file that has none.
const Schema = "https://opencode.ai/config.json"

// Input is what one opencode.json is made of.
type Input struct {
	Layers []*document.Table // keys of opencode.json, the earliest layer first
	Model  string            // becomes "model" unless a layer has it; "" for none

	// Instructions are paths added to those of the layers. A locked configuration
	// names the project's AGENTS.md and CLAUDE.md here: opencode skips them
	// where project configuration is disabled.
	Instructions []string
}

// Compose returns the text of opencode.json. A value that JSON or opencode
// cannot express is an error at its place.
func Compose(in Input) ([]byte, document.Diagnostics) {
	var problems document.Diagnostics
	out := &document.Table{}
	set(out, "$schema", Schema)
	for _, l := range in.Layers {
		if v := l.Get("$schema"); v != nil && v.Data != Schema {
			problems.Add(document.Error, v.Pos, "leave it out", "$schema is always %s", Schema)
		}
	}
	for e := range Merge(in.Layers...).All() {
		if e.Key != "$schema" {
			out.Set(e)
		}
	}
	if in.Model != "" && out.Get("model") == nil {
		set(out, "model", in.Model)
	}
	addInstructions(out, in.Instructions)
	check(&document.Value{Data: out}, &problems)
	if len(problems.Errors()) > 0 {
		return nil, problems
	}
	return encode(out), problems
}

// addInstructions appends paths that are not listed yet. A wrong type is left
// for opencode's schema to refuse.
func addInstructions(out *document.Table, paths []string) {
	if len(paths) == 0 {
		return
	}
	var list []*document.Value
	if v := out.Get("instructions"); v != nil {
		given, ok := v.List()
		if !ok {
			return
		}
		list = append(list, given...)
	}
	for _, p := range paths {
		if !containsText(list, p) {
			list = append(list, &document.Value{Data: p})
		}
	}
	out.Set(document.Entry{Key: "instructions", Value: &document.Value{Data: list}})
}

func containsText(list []*document.Value, s string) bool {
	for _, v := range list {
		if v.Data == s {
			return true
		}
	}
	return false
}

func set(t *document.Table, key, value string) {
	t.Set(document.Entry{Key: key, Value: &document.Value{Data: value}})
}
