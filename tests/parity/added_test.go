package parity

import (
	"regexp"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
)

// addition is a key that `debug config` prints although no case wrote it.
type addition struct {
	why   string
	path  *regexp.Regexp // of the key, in dots
	holds func(written *document.Table, path []string, printed *document.Value) bool
}

var additions = []addition{
	{"sections that opencode always has", regexp.MustCompile(`^(agent|command|mode|plugin|permission)$`), isEmpty},
	{"parts that an agent always has", regexp.MustCompile(`^(agent|mode)\..+\.(options|permission)$`), isEmpty},
	{"where a plugin was named", regexp.MustCompile(`^plugin_origins$`), always},
	{"the name of whoever runs it", regexp.MustCompile(`^username$`), always},
	{"an agent that is written as a mode", regexp.MustCompile(`^agent\.`),
		func(w *document.Table, path []string, _ *document.Value) bool {
			return w.Lookup("mode", path[1]) != nil
		}},
	{"what an agent's keys out of date mean", regexp.MustCompile(`^(agent|mode)\..+\.steps$`), beside("maxSteps")},
	{"tools as permissions", regexp.MustCompile(`(^|^(agent|mode)\.[^.]+\.)permission(\..+)?$`), tools},
	{"agents keep what they do not know as options", regexp.MustCompile(`^(agent|mode)\.[^.]+\.options(\..+)?$`),
		func(w *document.Table, path []string, printed *document.Value) bool {
			unknown := w.Lookup(path[:2]...).Table()
			if len(path) == 4 {
				return unknown.Get(path[3]) != nil
			}
			for e := range printed.Table().All() {
				if unknown.Get(e.Key) == nil {
					return false
				}
			}
			return true
		}},
	{"sharing as its older key says it", regexp.MustCompile(`^share$`),
		func(w *document.Table, _ []string, _ *document.Value) bool { return w.Get("autoshare") != nil }},
}

func always(*document.Table, []string, *document.Value) bool { return true }

func isEmpty(_ *document.Table, _ []string, v *document.Value) bool {
	list, isList := v.List()
	return v.Table() != nil && v.Table().Len() == 0 || isList && len(list) == 0
}

// beside: another key of the same table says the same.
func beside(key string) func(*document.Table, []string, *document.Value) bool {
	return func(w *document.Table, path []string, printed *document.Value) bool {
		v := w.Lookup(append(slices.Clone(path[:len(path)-1]), key)...)
		return v != nil && plain(v) == plain(printed)
	}
}

// tools: { bash = false } is printed as { bash = "deny" }; those that write share
// the permission "edit".
func tools(w *document.Table, path []string, printed *document.Value) bool {
	at := slices.Index(path, "permission")
	said := w.Lookup(append(slices.Clone(path[:at]), "tools")...).Table()
	rules := &document.Table{}
	if len(path) > at+1 {
		rules.Set(document.Entry{Key: path[at+1], Value: printed})
	} else {
		rules = printed.Table()
	}
	for e := range rules.All() {
		allowed := false
		for t := range said.All() {
			action := map[any]string{true: "allow", false: "deny"}[t.Value.Data]
			same := t.Key == e.Key || e.Key == "edit" && slices.Contains([]string{"write", "patch"}, t.Key)
			allowed = allowed || same && e.Value.Data == action
		}
		if !allowed {
			return false
		}
	}
	return true
}

// added says what opencode loaded besides what was written, as far as it is none
// of the known additions: a rule or an option that nobody asked for.
func added(written, printed *document.Table) string {
	var out []string
	var walk func(w, p *document.Table, path []string)
	walk = func(w, p *document.Table, path []string) {
		for e := range p.All() {
			path := append(slices.Clone(path), e.Key)
			name := strings.Join(path, ".")
			v, inside := w.Get(e.Key), e.Value.Table()
			known := func(a addition) bool { return a.path.MatchString(name) && a.holds(written, path, e.Value) }
			switch {
			case v != nil && v.Table() != nil && inside != nil:
				walk(v.Table(), inside, path)
			case v != nil || slices.ContainsFunc(additions, known):
			case inside != nil && inside.Len() > 0:
				walk(&document.Table{}, inside, path)
			default:
				out = append(out, name+" is loaded as "+plain(e.Value)+", and was not written")
			}
		}
	}
	walk(written, printed, nil)
	return strings.Join(out, "\n")
}
