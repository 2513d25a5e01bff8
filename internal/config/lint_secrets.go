package config

import (
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/lazy"
)

// keyShapes are what API keys and tokens look like.
var keyShapes = lazy.MustCompile(`\b(sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|` +
	`xox[abprs]-[A-Za-z0-9-]{10,}|AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{30,}|hf_[A-Za-z0-9]{20,}|gsk_[A-Za-z0-9]{20,}|xai-[A-Za-z0-9]{20,}|` +
	`ctx7sk-[A-Za-z0-9-]{10,}|tvly-[A-Za-z0-9-]{10,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*)`)

// keyMarks are what one of keyShapes begins with; most texts have none, and a
// search for a few letters is a hundred times faster than the expression.
var keyMarks = []string{"sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "AKIA", "AIza", "hf_", "gsk_", "xai-", "tvly-", "eyJ"}

func looksLikeKey(s string) bool {
	return slices.ContainsFunc(keyMarks, func(mark string) bool { return strings.Contains(s, mark) }) && keyShapes.MatchString(s)
}

// secretKey is the name of something that is usually secret.
var secretKey = lazy.MustCompile(`(?i)(^|[_-])(api[_-]?key|token|secret|password|passwd|authorization|private[_-]?key)$|^apikey$|clientsecret$|[_-]key$`)

// placeholder is text that stands where a key is asked for and none is needed.
var placeholder = lazy.MustCompile(`(?i)^(|none|null|dummy|fake|test|local|ollama|lm-?studio|not[-_ ]?(needed|required|used)|no[-_ ]?key.*|unused|empty|x+|\*+|anything|placeholder|your[-_ ].*|<.*>|sk-(x+|no-key-required|1234|dummy|local|test))$`)

// secrets: what stands in a configuration is read by everybody who reads the
// file, and by whatever the agent runs. The value itself is not repeated.
func (l *linter) secrets() {
	walk(&document.Value{Data: l.t}, nil, func(v *document.Value, path []string) {
		text, ok := v.Text()
		if !ok || len(path) == 0 || len(text) < 8 || !sensitive(path) && len(text) < 16 {
			return
		}
		bare := text
		if reference(text) {
			bare = fileReference.ReplaceAllString(envReference.ReplaceAllString(text, ""), "")
		}
		named := sensitive(path) && secretKey.MatchString(path[len(path)-1]) && len(bare) >= 8 &&
			!strings.ContainsAny(bare, "{}$%") && !placeholder.MatchString(strings.TrimPrefix(strings.TrimSpace(bare), "Bearer "))
		if named && strings.EqualFold(strings.TrimSpace(bare), "bearer") {
			return
		}
		if named || looksLikeKey(bare) && !placeholder.MatchString(bare) {
			l.warn(v.Pos, "put it into the environment and write {env:"+variableName(path)+"}", "%s holds a secret in the clear", document.Join(path...))
		}
	})
}

var envReference = lazy.MustCompile(`\{env:[^}]+\}`)

// sensitive are the places where a key of that name really is a secret.
func sensitive(path []string) bool {
	switch path[0] {
	case "provider", "mcp", "enterprise":
		return true
	}
	return false
}

// variableName proposes one for a path: provider.openai.options.apiKey is
// OPENAI_API_KEY.
func variableName(path []string) string {
	last := path[len(path)-1]
	name := last
	if len(path) > 2 && !strings.Contains(last, "_") {
		name = path[1] + "_" + camel.ReplaceAllString(last, "${1}_$2")
	}
	return strings.Trim(unfitVariable.ReplaceAllString(strings.ToUpper(name), "_"), "_")
}

var (
	camel         = lazy.MustCompile(`([a-z])([A-Z])`)
	unfitVariable = lazy.MustCompile(`[^A-Z0-9]+`)
)

// fileReferences: opencode reads the files when it starts, and refuses the whole
// configuration when one is not there.
func (l *linter) fileReferences() {
	if l.in.Visible == nil {
		return
	}
	walk(&document.Value{Data: l.t}, nil, func(v *document.Value, path []string) {
		text, _ := v.Text()
		for _, m := range fileReference.FindAllStringSubmatch(text, -1) {
			if strings.HasPrefix(m[1], "/") && !l.in.Visible(m[1]) {
				l.warn(v.Pos, "make it visible with sandbox.read_only_paths", "%s: %s is not visible in the sandbox of the instance", document.Join(path...), m[0])
			}
		}
	})
}
