package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/lazy"
)

// linter finds what opencode accepts but surely was not meant. Each rule looks at
// the whole, merged configuration, with the agents and commands that stand in
// files; the findings name the layer that said it.
type linter struct {
	*composer
	t       *document.Table
	written *document.Table            // without the agents and commands that stand in files
	agents  map[string]*document.Table // known agents; nil for one of opencode's own that nothing changes
}

func (l *linter) run() {
	l.knownAgents()
	for _, rule := range []func(){
		l.agentKeys, l.agentValues, l.agentNames,
		l.permissions, l.toolRules,
		l.models, l.providers,
		l.variables, l.secrets, l.fileReferences,
		l.instructions, l.plugins, l.references,
		l.servers, l.languageServers, l.formatters,
		l.deprecated,
	} {
		rule()
	}
}

func (l *linter) warn(pos document.Pos, hint, format string, args ...any) {
	l.problems.Add(document.Warning, pos, hint, format, args...)
}

// each visits the named tables below a key: servers, providers, agents.
func (l *linter) each(key string, visit func(name string, e document.Entry, t *document.Table)) {
	for e := range l.t.Get(key).Table().All() {
		if t := e.Value.Table(); t != nil {
			visit(document.Join(key, e.Key), e, t)
		}
	}
}

// eachString visits every string below a key with its path.
func (l *linter) eachString(key string, visit func(v *document.Value, text string, path []string)) {
	v := l.t.Get(key)
	if v == nil {
		return
	}
	walk(v, []string{key}, func(v *document.Value, path []string) {
		if text, ok := v.Text(); ok {
			visit(v, text, path)
		}
	})
}

// shellVariable is a value that a shell would fill in and opencode does not.
var shellVariable = lazy.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$([A-Z][A-Z0-9_]{2,})\b|\{env\.([A-Za-z_][A-Za-z0-9_]*)\}|%([A-Z][A-Z0-9_]{2,})%`)

// looseReference is a reference that opencode would not recognise.
var looseReference = lazy.MustCompile(`(?i)\{\s*(env|file)\s*:\s*([^}]*?)\s*\}`)

// variables: only {env:NAME} is filled in, and only in this spelling.
func (l *linter) variables() {
	for _, key := range []string{"provider", "mcp", "model", "small_model", "enterprise"} {
		l.eachString(key, func(v *document.Value, text string, path []string) {
			m := shellVariable.FindStringSubmatch(text)
			if m == nil || slices.Contains(path, "prompt") {
				return
			}
			name := m[1] + m[2] + m[3] + m[4]
			l.warn(v.Pos, "write {env:"+name+"}", "%s: %s is not filled in by opencode", document.Join(path...), m[0])
			l.fix(v.Pos, document.Edit{Path: path, Replace: &document.Value{Data: shellVariable.ReplaceAllString(text, "{env:$1$2$3$4}")}})
		})
	}
	walk(&document.Value{Data: l.t}, nil, func(v *document.Value, path []string) {
		text, ok := v.Text()
		if !ok || !strings.Contains(text, "{") {
			return
		}
		for _, m := range looseReference.FindAllStringSubmatch(text, -1) {
			exact := "{" + strings.ToLower(m[1]) + ":" + m[2] + "}"
			if m[0] != exact && m[2] != "" {
				l.warn(v.Pos, "write "+exact, "%s: opencode does not recognise %s", document.Join(path...), m[0])
			}
		}
	})
}

// instructions are paths, patterns and addresses.
func (l *linter) instructions() {
	list, _ := l.t.Get("instructions").List()
	for i, v := range list {
		text, ok := v.Text()
		if !ok || strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://") {
			continue
		}
		if prose(text) {
			l.warn(v.Pos, "write it into a file and name that", "instructions.%d holds prose; it takes paths, patterns and addresses of files", i)
		}
	}
}

func prose(s string) bool {
	return strings.Contains(s, "\n") || len(strings.Fields(s)) >= 4 && !strings.ContainsAny(s, "/*")
}

// references: opencode 1.18 reads them with a loader of their own, which takes
// those of the project even where project settings are locked, as soon as the
// configuration has any, and then allows what they name to be read.
func (l *linter) references() {
	if l.in.Project == "" || l.t.Lookup("permission", "external_directory") != nil {
		return
	}
	for _, key := range []string{"references", "reference"} {
		if e, ok := l.t.Entry(key); ok {
			l.warn(e.KeyPos, `add permission.external_directory = { "*" = "ask" }, which counts all the same`,
				"%s lets a project name further directories that may be read, in spite of the lock", key)
		}
	}
}

// plugins: a path without "./" is taken for the name of a package.
func (l *linter) plugins() {
	list, _ := l.t.Get("plugin").List()
	for i, v := range list {
		text, ok := v.Text()
		if pair, isPair := v.List(); isPair && len(pair) > 0 {
			text, ok = pair[0].Text()
		}
		if !ok || strings.HasPrefix(text, ".") || strings.HasPrefix(text, "/") || strings.HasPrefix(text, "file:") {
			continue
		}
		if strings.HasSuffix(text, ".ts") || strings.HasSuffix(text, ".js") || strings.HasSuffix(text, ".mjs") {
			l.warn(v.Pos, fmt.Sprintf("write %q", "./"+text), "plugin.%d: %q is taken for the name of a package", i, text)
		}
	}
}

// deprecated are keys that opencode still reads and has a better one for.
func (l *linter) deprecated() {
	note := func(t *document.Table, key, instead, where string) {
		if e, ok := t.Entry(key); ok {
			l.problems.Add(document.Note, e.KeyPos, "use "+instead, "%s is out of date", document.Join(append(strings.Split(where, "."), key)...))
		}
	}
	for key, instead := range map[string]string{
		"autoshare": `share = "auto"`, "mode": "agent", "tools": "permission", "reference": "references",
	} {
		if e, ok := l.t.Entry(key); ok {
			l.problems.Add(document.Note, e.KeyPos, "use "+instead, "%s is out of date", key)
		}
	}
	if e, ok := l.t.Entry("layout"); ok {
		l.problems.Add(document.Note, e.KeyPos, "take it out", "layout has no effect any more")
	}
	l.each("agent", func(name string, _ document.Entry, t *document.Table) {
		note(t, "maxSteps", "steps", name)
		note(t, "tools", "permission", name)
	})
}
