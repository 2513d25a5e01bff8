package config

import (
	"path"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/schema"
)

// Input is what a configuration is composed of.
type Input struct {
	Bundle  Bundle
	Schemas schema.Set // what the opencode that will read it accepts

	// Project is the root of the project where opencode will not look at the
	// project's own settings, because they are locked; "" where it does. It then
	// finds no relative instructions either, so they are written as absolute paths,
	// and AGENTS.md and CLAUDE.md of the project are named.
	Project string

	// Visible reports whether whoever runs opencode can see an absolute path; nil
	// means that nothing is known about that.
	Visible func(path string) bool

	AllowUnknown bool // keys that the schema does not know are passed on, with a warning
	Strict       bool // warnings are errors
}

// Output is a composed configuration.
type Output struct {
	Config []byte // opencode.json
	TUI    []byte // tui.json; nil where nothing is said about the terminal
	Files  []File // what stands beside them: agents, commands, skills, copies
	Fixes  []Fix  // repairs of what was found, where there is one without doubt
}

// Fix repairs one finding in the file that it is about.
type Fix struct {
	Pos   document.Pos
	Edit  document.Edit
	Whole []byte // instead of an edit: what the file shall hold
}

// Compose merges the layers, checks the result and writes it. With an error
// among the findings there is no output but the fixes.
func Compose(in Input) (Output, document.Diagnostics) {
	c := composer{in: in}
	c.out.Files = in.Bundle.files
	c.out.Fixes = slices.Clone(in.Bundle.mended)
	c.main()
	c.terminal()
	if in.Strict {
		for i := range c.problems {
			if c.problems[i].Severity == document.Warning {
				c.problems[i].Severity = document.Error
			}
		}
	}
	if len(c.problems.Errors()) > 0 {
		return Output{Fixes: c.out.Fixes}, c.problems
	}
	return c.out, c.problems
}

type composer struct {
	in       Input
	out      Output
	problems document.Diagnostics
}

// main composes opencode.json.
func (c *composer) main() {
	t := c.merge(false, schema.ConfigFile)
	c.instructions(t)
	c.primary(t)
	check(&document.Value{Data: t}, &c.problems)
	whole := c.withDocuments(t)
	c.validate(c.in.Schemas.Config, whole)
	if !c.in.Bundle.incomplete {
		l := linter{composer: c, t: whole, written: t}
		l.run()
	}
	c.out.Config = encode(t)
}

// terminal composes tui.json.
func (c *composer) terminal() {
	if len(tables(c.in.Bundle.layers, true)) == 0 {
		return
	}
	t := c.merge(true, schema.TUIFile)
	check(&document.Value{Data: t}, &c.problems)
	c.validate(c.in.Schemas.TUI, t)
	c.out.TUI = encode(t)
}

// merge lays the layers of one file over each other, $schema first.
func (c *composer) merge(tui bool, file string) *document.Table {
	t := &document.Table{}
	set(t, "$schema", schema.URLs[file])
	layers := tables(c.in.Bundle.layers, tui)
	for _, l := range layers {
		if v := l.Get("$schema"); v != nil && v.Data != schema.URLs[file] {
			hint := "leave it out"
			if v.Data == schema.URLs[schema.TUIFile] {
				hint = "name the file tui.json, tui.jsonc or tui.toml"
			}
			c.problems.Add(document.Error, v.Pos, hint, "$schema of %s is always %s", file, schema.URLs[file])
		}
	}
	for e := range Merge(layers...).All() {
		if e.Key != "$schema" {
			strip(e.Value)
			t.Set(e)
		}
	}
	return t
}

// strip takes nulls out of tables that stand in lists, which no layer merges.
func strip(v *document.Value) {
	list, _ := v.List()
	for _, e := range list {
		if t := e.Table(); t != nil {
			e.Data = Merge(t)
		}
	}
	for e := range v.Table().All() {
		strip(e.Value)
	}
}

// primary gives an agent that says primary = true the mode that opencode 1.x
// looks at. What the agent says itself wins and stays.
func (c *composer) primary(t *document.Table) {
	for e := range t.Get("agent").Table().All() {
		agent := e.Value.Table()
		flag, _ := agent.Entry("primary")
		if flag.Value == nil {
			continue
		}
		on, isBool := flag.Value.Data.(bool)
		mode, _ := agent.Get("mode").Text()
		where := document.Join("agent", e.Key, "primary")
		switch {
		case !isBool:
			c.problems.Add(document.Error, flag.Value.Pos, "", "%s: expected true or false, not %s", where, article(flag.Value.Kind()))
		case on && agent.Get("mode") == nil:
			agent.Set(document.Entry{Key: "mode", KeyPos: flag.KeyPos, Value: &document.Value{Pos: flag.Value.Pos, Data: "primary"}})
		case on && mode == "subagent" || !on && mode == "primary":
			c.problems.Add(document.Warning, flag.Value.Pos, "take one of them out", "%s: %v contradicts mode %q, which counts", where, on, mode)
		}
	}
}

// withDocuments adds agents and commands that stand in files, so that they are
// held to the same rules and can be named.
func (c *composer) withDocuments(t *document.Table) *document.Table {
	if len(c.in.Bundle.documents) == 0 {
		return t
	}
	out := t.Clone()
	for _, m := range c.in.Bundle.documents {
		if m.kind.under == "" {
			continue
		}
		group := child(out, m.kind.under, document.Entry{KeyPos: m.Pos, Value: &document.Value{Pos: m.Pos}})
		if group == nil {
			continue // something else stands there: the schema will say so
		}
		own := m.table()
		if e, both := group.Entry(m.Name); both && e.Value.Table() != nil {
			for key := range e.Value.Table().All() {
				if own.Get(key.Key) != nil {
					c.problems.Add(document.Warning, key.KeyPos, "say it in one of them",
						"%s is also set in the file %s, and which counts depends on where opencode reads it", document.Join(m.kind.under, m.Name, key.Key), m.file)
				}
			}
			own = Merge(own, e.Value.Table())
		}
		group.Set(document.Entry{Key: m.Name, KeyPos: m.Pos, Value: &document.Value{Pos: m.Pos, Data: own}})
	}
	return out
}

// validate holds a document against the schema of the opencode that reads it.
func (c *composer) validate(s *schema.Schema, t *document.Table) {
	found, err := s.Check(t)
	if err != nil {
		c.problems.Errorf(document.Pos{}, "%v", err)
	}
	for _, v := range found {
		severity := document.Error
		if v.Fault == schema.Unknown {
			if v.Instead != "" {
				c.fix(v.Pos, document.Edit{Path: v.Path, Rename: v.Instead})
			}
			if c.in.AllowUnknown {
				severity, v.Message = document.Warning, v.Message+" is passed on, for opencode to use or to drop"
			}
		}
		if v.Fault == schema.NotOneOf && v.Instead != "" {
			c.fix(v.Pos, document.Edit{Path: v.Path, Replace: &document.Value{Data: v.Instead}})
		}
		c.problems.Add(severity, v.Pos, v.Hint, "%s", v.Message)
	}
}

func (c *composer) fix(pos document.Pos, e document.Edit) {
	e.Path = slices.Clone(e.Path)
	c.out.Fixes = append(c.out.Fixes, Fix{Pos: pos, Edit: e})
}

// instructions names what a project instructs by absolute path. A wrong type is
// left for opencode's schema to refuse.
func (c *composer) instructions(out *document.Table) {
	if c.in.Project == "" {
		return
	}
	var list []*document.Value
	if v := out.Get("instructions"); v != nil {
		given, ok := v.List()
		if !ok {
			return
		}
		for _, v := range given {
			if text, ok := v.Text(); ok && relative(text) {
				v = &document.Value{Pos: v.Pos, Data: path.Join(c.in.Project, text)}
			}
			list = append(list, v)
		}
	}
	for _, name := range []string{"AGENTS.md", "CLAUDE.md"} {
		if p := path.Join(c.in.Project, name); !containsText(list, p) {
			list = append(list, &document.Value{Data: p})
		}
	}
	out.Set(document.Entry{Key: "instructions", Value: &document.Value{Data: list}})
}

// relative reports whether opencode would look for an instruction below the
// project. Prose is no path; lint says so.
func relative(s string) bool {
	return !path.IsAbs(s) && !strings.HasPrefix(s, "~") && !strings.Contains(s, "://") && !strings.HasPrefix(s, "{") && !prose(s)
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

// Text writes one value as it would stand in the file, on one line where it fits.
func Text(v *document.Value) string {
	if v == nil {
		return ""
	}
	return string(encodeValue(v))
}
