package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
)

// toolRules: opencode turns tools into rules of permission, and puts them before
// those that stand in permission. A key of both takes the place of the one and
// the value of the other. It does so for each file by itself, so that tables and
// files of one agent are looked at apart.
func (l *linter) toolRules() {
	l.toolOrder(nil, l.written)
	for _, key := range []string{"mode", "agent"} {
		for e := range l.written.Get(key).Table().All() {
			l.toolOrder([]string{key, e.Key}, e.Value.Table())
		}
	}
	for _, m := range l.in.Bundle.documents {
		if m.kind == agentKind {
			l.toolOrder([]string{m.kind.under, m.Name}, m.head)
		}
	}
}

// toolRule is what opencode makes of an entry of tools.
type toolRule struct {
	document.Entry
	governs, action string
}

func toolRulesOf(t *document.Table) []toolRule {
	var out []toolRule
	for e := range t.All() {
		on, isBool := e.Value.Data.(bool)
		if !isBool {
			continue
		}
		r := toolRule{e, e.Key, "deny"}
		if on {
			r.action = "allow"
		}
		if e.Key == "write" || e.Key == "patch" {
			r.governs = "edit"
		}
		if i := slices.IndexFunc(out, func(o toolRule) bool { return o.governs == r.governs }); i >= 0 {
			out[i] = r
			continue
		}
		out = append(out, r)
	}
	return out
}

func (l *linter) toolOrder(path []string, t *document.Table) {
	rules := t.Get("permission").Table()
	if one, ok := t.Get("permission").Text(); ok { // one action for all tools
		rules = &document.Table{}
		set(rules, "*", one)
	}
	in := func(parts ...string) string { return document.Join(below(path, parts...)...) }
	tools := toolRulesOf(t.Get("tools").Table())
	for i, tool := range tools {
		where := in("tools", tool.Key)
		own := rules.Get(tool.governs)
		if own == nil {
			if last, ok := lastRule(rules, tool.governs); ok && !isAction(last.Value, tool.action) {
				l.warn(tool.KeyPos, fmt.Sprintf("write %s = %q, behind it", in("permission", tool.governs), tool.action),
					"%s comes before %s, and the last rule that matches wins", where, in("permission", last.Key))
			}
			continue
		}
		if tool.action == "deny" && !isAction(own, "deny") && !isAction(own.Table().Get("*"), "deny") {
			l.warn(tool.KeyPos, "say in permission what is meant", "%s has no effect beside %s", where, in("permission", tool.governs))
		}
		if other := overtaken(rules, tool.governs, tools[:i]); other != "" {
			l.warn(tool.KeyPos, "take it out, permission says it", "%s puts %s before %s, and the last rule that matches wins",
				where, in("permission", tool.governs), in("permission", other))
		}
	}
}

// lastRule is the rule that counts for a key that no rule names itself.
func lastRule(rules *document.Table, key string) (last document.Entry, found bool) {
	for e := range rules.All() {
		if matches(e.Key, key) {
			last, found = e, true
		}
	}
	return last, found
}

// overtaken is a key that stands before another in permission, and behind it once
// the other has its place among the tools; "" where that changes nothing.
func overtaken(rules *document.Table, key string, tools []toolRule) string {
	for e := range rules.All() {
		switch {
		case e.Key == key:
			return ""
		case slices.ContainsFunc(tools, func(t toolRule) bool { return t.governs == e.Key }):
		case (matches(e.Key, key) || matches(key, e.Key)) && !equal(e.Value, rules.Get(key)):
			return e.Key
		}
	}
	return ""
}

func isAction(v *document.Value, action string) bool {
	text, _ := v.Text()
	return text == action
}

// matches reports whether a key of permission governs a tool, or all that another
// key governs: "*" stands for anything, "?" for one letter.
func matches(pattern, tool string) bool {
	expression := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
	ok, err := regexp.MatchString("^(?s:"+expression+")$", tool)
	return ok && err == nil
}
