package config

import (
	"cmp"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
)

// builtinAgents are opencode's own; those of the second list work behind the
// scenes.
var (
	builtinAgents = []string{"build", "plan", "general", "explore"}
	hiddenAgents  = []string{"title", "summary", "compaction"}
)

func (l *linter) knownAgents() {
	l.agents = map[string]*document.Table{}
	for _, name := range slices.Concat(builtinAgents, hiddenAgents) {
		l.agents[name] = nil
	}
	for _, key := range []string{"mode", "agent"} {
		l.each(key, func(_ string, e document.Entry, t *document.Table) { l.agents[e.Key] = t })
	}
}

func (l *linter) agentList() string {
	var names []string
	for name := range l.agents {
		if !slices.Contains(hiddenAgents, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) > 12 {
		names = append(names[:12], "…")
	}
	return strings.Join(names, ", ")
}

// agentRenames are keys that other tools and versions use, by opencode's name.
var agentRenames = map[string]string{
	"instruction": "prompt", "instructions": "prompt", "system": "prompt", "systemPrompt": "prompt", "system_prompt": "prompt",
	"disabled": "disable", "topP": "top_p", "max_steps": "steps", "desc": "description", "colour": "color",
}

// agentKeys: an agent takes any key, and what opencode does not know becomes an
// option of the model.
func (l *linter) agentKeys() {
	known := append(l.in.Schemas.Config.Keys("agent", "*"), "primary", "name")
	for _, key := range []string{"agent", "mode"} {
		l.each(key, func(where string, agent document.Entry, t *document.Table) {
			for e := range t.All() {
				if slices.Contains(known, e.Key) {
					continue
				}
				if e.Key == "permissions" {
					l.problems.Add(document.Error, e.KeyPos, `use permission, with its rules: { bash = "ask" }`, "unknown key %q in %s: opencode 1.x refuses it", e.Key, where)
					continue
				}
				certain := agentRenames[e.Key]
				if certain == "" {
					certain = document.Unmistakable(e.Key, known)
				}
				hint := "if it is an option of the model, put it into options"
				if meant := cmp.Or(certain, document.Nearest(e.Key, known)); meant != "" {
					hint = "did you mean \"" + meant + "\"? An option of the model belongs into options"
				}
				if certain != "" && t.Get(certain) == nil {
					l.fix(e.KeyPos, document.Edit{Path: []string{key, agent.Key, e.Key}, Rename: certain})
				}
				l.warn(e.KeyPos, hint, "%s.%s is not a key of an agent; opencode passes it to the model as an option", where, document.Join(e.Key))
			}
		})
	}
}

func (l *linter) agentValues() {
	l.each("agent", func(where string, _ document.Entry, t *document.Table) {
		for _, limit := range []struct {
			key string
			max float64
		}{{"temperature", 2}, {"top_p", 1}} {
			v := t.Get(limit.key)
			if v == nil {
				continue
			}
			n, isFloat := v.Data.(float64)
			if i, isInt := v.Data.(int64); isInt {
				n, isFloat = float64(i), true
			}
			if isFloat && (n < 0 || n > limit.max) {
				l.warn(v.Pos, "", "%s.%s: providers take 0 to %v", where, limit.key, limit.max)
			}
		}
	})
}

// agentNames: what names an agent must name one that there is.
func (l *linter) agentNames() {
	named := func(v *document.Value, where string, primary bool) {
		name, ok := v.Text()
		if !ok || reference(name) {
			return
		}
		t, known := l.agents[name]
		switch {
		case !known:
			l.warn(v.Pos, "there are "+l.agentList(), "%s names the agent %q, which nothing defines", where, name)
		case t.Get("disable") != nil && t.Get("disable").Data == true:
			l.warn(v.Pos, "", "%s names the agent %q, which is disabled", where, name)
		case primary && notPrimary(name, t):
			l.warn(v.Pos, `give the agent mode = "primary" or "all"`, "%s names the agent %q, which nobody can talk to directly", where, name)
		}
	}
	named(l.t.Get("default_agent"), "default_agent", true)
	l.each("command", func(where string, _ document.Entry, t *document.Table) {
		named(t.Get("agent"), where+".agent", false)
	})
}

func notPrimary(name string, t *document.Table) bool {
	mode, _ := t.Get("mode").Text()
	if v := t.Get("hidden"); v != nil && v.Data == true {
		return true
	}
	switch mode {
	case "":
		return slices.Contains([]string{"general", "explore"}, name) || slices.Contains(hiddenAgents, name)
	default:
		return mode == "subagent"
	}
}

// reference reports whether opencode will put something else in.
func reference(s string) bool { return strings.Contains(s, "{env:") || strings.Contains(s, "{file:") }
