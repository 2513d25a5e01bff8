package config

import (
	"slices"
	"strconv"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
)

// governed are tools that opencode has, or had, without a permission of their
// own: the rule is looked up under another name.
var governed = map[string]string{
	"write": "edit", "patch": "edit", "apply_patch": "edit", "multiedit": "edit", "notebookedit": "edit",
	"todoread": "todowrite", "ls": "list", "fetch": "webfetch", "shell": "bash", "command": "bash",
}

func (l *linter) permissions() {
	l.permission("permission", []string{"permission"}, l.t.Get("permission").Table())
	l.each("agent", func(where string, e document.Entry, t *document.Table) {
		l.permission(where+".permission", []string{"agent", e.Key, "permission"}, t.Get("permission").Table())
	})
}

func (l *linter) permission(where string, path []string, t *document.Table) {
	if t == nil {
		return
	}
	known := l.in.Schemas.Config.Keys("permission")
	for e := range t.All() {
		at := where + "." + document.Join(e.Key)
		if meant := governed[e.Key]; meant != "" {
			l.warn(e.KeyPos, "use "+meant, "%s has no effect: opencode asks the permission %q for that tool", at, meant)
			if t.Get(meant) == nil {
				l.fix(e.KeyPos, document.Edit{Path: below(path, e.Key), Rename: meant})
			}
		} else if !slices.Contains(known, e.Key) && !strings.ContainsAny(e.Key, "*_?") {
			if near := document.Nearest(e.Key, known); near != "" && l.t.Get("mcp").Table().Get(e.Key) == nil {
				l.warn(e.KeyPos, "did you mean \""+near+"\"?", "%s governs no tool of opencode's own", at)
				if near == document.Unmistakable(e.Key, known) {
					l.fix(e.KeyPos, document.Edit{Path: below(path, e.Key), Rename: near})
				}
			}
		}
		l.rules(at, below(path, e.Key), e.Key, e.Value.Table())
	}
	l.shadowed(where, t)
}

// rules are the patterns of one permission.
func (l *linter) rules(where string, path []string, tool string, t *document.Table) {
	if t == nil {
		return
	}
	l.shadowed(where, t)
	for e := range t.All() {
		if strings.ContainsAny(e.Key, "*?") || reference(e.Key) {
			continue
		}
		action, _ := e.Value.Text()
		switch {
		case tool == "bash" && strings.Contains(e.Key, " ") && action == "deny":
			l.warn(e.KeyPos, "write \""+e.Key+" *\"", "%s.%s matches these bare words and nothing behind them", where, document.Join(e.Key))
			if t.Get(e.Key+" *") == nil {
				l.fix(e.KeyPos, document.Edit{Path: below(path, e.Key), Rename: e.Key + " *"})
			}
		case tool == "bash" && action == "deny":
			l.warn(e.KeyPos, "write \""+e.Key+" *\"", "%s.%s matches the command without arguments only", where, document.Join(e.Key))
			if t.Get(e.Key+" *") == nil {
				l.fix(e.KeyPos, document.Edit{Path: below(path, e.Key), Rename: e.Key + " *"})
			}
		case tool == "external_directory":
			l.warn(e.KeyPos, "write \""+strings.TrimSuffix(e.Key, "/")+"/*\"", "%s.%s matches nothing below the directory", where, document.Join(e.Key))
		}
	}
}

// shadowed finds rules that a later one of every pattern makes void: the last
// that matches wins.
func (l *linter) shadowed(where string, t *document.Table) {
	var before []string
	for e := range t.All() {
		if n, err := strconv.ParseUint(e.Key, 10, 32); err == nil && strconv.FormatUint(n, 10) == e.Key && t.Len() > 1 {
			l.warn(e.KeyPos, "write a pattern that matches it, such as \""+e.Key+"*\"", "%s.%s is a whole number: opencode puts such keys before all others, whatever their order here",
				where, e.Key)
		}
		if e.Key == "*" && len(before) > 0 {
			if action, ok := e.Value.Text(); ok {
				l.warn(e.KeyPos, "put \"*\" first", "%s.\"*\" comes after %s, and the last rule that matches wins: all is %q",
					where, strings.Join(before, ", "), action)
			}
		}
		before = append(before, document.Join(e.Key))
	}
}
