// Package nixoptions composes the one JSON Schema of which nixos/ makes its
// options: the inventory's keys, of internal/instance, and opencode's own, of
// internal/schema, with types, defaults and descriptions.
//
// It decides what the Nix side cannot know: which keys of a layer opencoded adds
// to opencode's, where the order of keys is meaning, and how a pattern reads as
// the anchored POSIX expression that Nix understands. How an option is called and
// typed there is nixos/schema-types.nix.
package nixoptions

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/schema"
)

//go:generate go run generate.go ../../nixos/schema.json

// Keywords of our own, besides those of internal/instance.
const (
	// Pattern is a pattern as builtins.match has it.
	Pattern = "x-nix-pattern"
	// Name is what an option is called where the key of an inventory is called
	// otherwise: camel case, as NixOS options are.
	Name = "x-nix-name"
	// Ordered marks a table in which the order of keys is meaning. An attribute set
	// of Nix has none, so a list of single rules says it there.
	Ordered = "x-ordered"
	// References marks keys of opencode, in whose strings {env:NAME} and {file:PATH}
	// stand for what opencode fills in.
	References = "x-references"
)

const (
	hostDef     = "Host"
	instanceDef = "Instance"
	configDef   = "Configuration"
)

type node = map[string]any

func ref(name string) node { return node{"$ref": "#/$defs/" + name} }

// Schema is the text of nixos/schema.json.
func Schema() ([]byte, error) {
	defs := node{}
	for name, s := range map[string]instance.Schema{hostDef: instance.HostSchema(), instanceDef: instance.InstanceSchema()} {
		plain, err := reread(s)
		if err != nil {
			return nil, err
		}
		rename(plain)
		defs[name] = plain
	}
	config, err := configuration(defs)
	if err != nil {
		return nil, err
	}
	defs[configDef] = config
	keys := defs[instanceDef].(node)["properties"].(node)
	keys["config"] = node{"$ref": "#/$defs/" + configDef, "description": keys["config"].(node)["description"]}
	root := node{
		"$schema":  "https://json-schema.org/draft/2020-12/schema",
		"$comment": "Generated: go generate ./internal/nixoptions",
		"title":    "inventory of opencoded, for opencode " + schema.BuiltinVersion,
		"type":     "object", "additionalProperties": false, "required": []string{"version"},
		"properties": node{
			"version":  node{"const": 1},
			"host":     ref(hostDef),
			"defaults": ref(instanceDef),
			"instances": node{
				"type": "object", "propertyNames": node{"pattern": instance.NamePattern},
				"additionalProperties": node{"$ref": "#/$defs/" + instanceDef, "required": []string{"directory"}},
			},
		},
		"$defs": defs,
	}
	if err := walk(root, annotate); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(root, "", " ")
	return append(text, '\n'), err
}

// rename calls the keys of a table, and of the tables in it, as the Nix side does.
func rename(table node) {
	keys, _ := table["properties"].(node)
	for key, v := range keys {
		if name := camel(key); name != key {
			v.(node)[Name] = name
		}
		rename(v.(node))
	}
}

func camel(key string) string {
	words := strings.Split(key, "_")
	for i, w := range words[1:] {
		words[i+1] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, "")
}

// configuration is what a layer may say: the keys of opencode.json, those of
// tui.json that layers say too, and opencoded's own, which name files. The
// definitions of both schemas go into defs.
func configuration(defs node) (node, error) {
	files := schema.Builtin()
	var parts [2]node
	for i, s := range []*schema.Schema{files.Config, files.TUI} {
		text, err := s.Annotated()
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &parts[i]); err != nil {
			return nil, err
		}
		own, _ := parts[i]["$defs"].(node)
		for name, def := range own {
			if defs[name] != nil {
				return nil, fmt.Errorf("internal error: two definitions are called %s", name)
			}
			defs[name] = def
		}
	}
	keys := parts[0]["properties"].(node)
	delete(keys, "$schema")
	terminal := parts[1]["properties"].(node)
	for _, key := range []string{"theme", "keybinds"} {
		keys[key] = terminal[key]
		delete(terminal, key)
	}
	delete(terminal, "$schema")
	keys["tui"] = node{
		"type": "object", "additionalProperties": false, "properties": terminal,
		"description": "What is said about the terminal; it goes to tui.json.",
	}
	named(keys)
	for _, name := range []string{"PermissionObjectConfig", "PermissionConfig"} {
		def, known := defs[name].(node)
		if !known {
			return nil, fmt.Errorf("internal error: opencode's schema has no definition %s", name)
		}
		_ = walk(def, func(n node) error {
			if n["type"] == "object" {
				n[Ordered] = true
			}
			return nil
		})
	}
	config := node{"type": "object", "additionalProperties": false, "properties": keys, References: true}
	return config, nil
}

// named adds the keys that name agents, skills and commands in files of their own
// (internal/config). The tables that opencode 2 and others write in their place
// fit too, as they do there.
func named(keys node) {
	file := func() node { return node{"type": "string", instance.SchemaFile: true} }
	keys["agents"] = node{
		"type": "object", "additionalProperties": node{"anyOf": []any{file(), ref("AgentConfig")}},
		"description": "Agents by name: a markdown file, or the keys of `agent.NAME`, where `instructions` is another word for `prompt`.",
	}
	command := keys["command"].(node)["additionalProperties"]
	keys["commands"] = node{
		"type": "object", "additionalProperties": node{"anyOf": []any{file(), command}},
		"description": "Commands by name: a markdown file, or the keys of `command.NAME`.",
	}
	skills := keys["skills"].(node)
	skills["description"] = "Skills by name: a folder with a SKILL.md, or a description and instructions; besides `paths` and `urls`, where opencode looks for more."
	skills["additionalProperties"] = node{"anyOf": []any{file(), node{
		"type": "object", "additionalProperties": false, "required": []any{"description", "instructions"},
		"properties": node{
			"description":  node{"type": "string", "description": "When the skill is to be loaded."},
			"instructions": node{"type": "string", "description": "What it says."},
		},
	}}}
}

// annotate adds the Nix form of a pattern.
func annotate(n node) error {
	pattern, ok := n["pattern"].(string)
	if !ok {
		return nil
	}
	posix, err := POSIX(pattern)
	n[Pattern] = posix
	return err
}

// POSIX is the expression that, matched against a whole string as builtins.match
// does, accepts what an anchored pattern does. What POSIX cannot say is an error.
func POSIX(pattern string) (string, error) {
	whole, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "", err
	}
	// With alternatives outside of parentheses an anchor would belong to one of them.
	if whole.Op != syntax.OpConcat || whole.Sub[0].Op != syntax.OpBeginText || whole.Sub[len(whole.Sub)-1].Op != syntax.OpEndText {
		return "", fmt.Errorf("the pattern %s is not anchored as a whole: begin it with ^( and end it with )$", pattern)
	}
	inner := strings.TrimSuffix(strings.TrimPrefix(pattern, "^"), "$")
	if _, err := syntax.Parse(inner, syntax.POSIX); err != nil {
		return "", fmt.Errorf("the pattern %s cannot be said in Nix: %w", pattern, err)
	}
	return inner, nil
}

// walk visits every table below a value, in a fixed order.
func walk(v any, visit func(node) error) error {
	switch v := v.(type) {
	case node:
		if err := visit(v); err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if err := walk(v[key], visit); err != nil {
				return err
			}
		}
	case []any:
		for _, each := range v {
			if err := walk(each, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// reread turns a schema into what its JSON says.
func reread(s instance.Schema) (out node, err error) {
	text, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	return out, err
}
