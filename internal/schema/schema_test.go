package schema

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/opencoded/opencoded/internal/document"
)

func check(t *testing.T, s *Schema, text string) string {
	t.Helper()
	table, problems := document.ParseJSON("f.json", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	found, err := s.Check(table)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range found {
		out = append(out, document.Diagnostic{Pos: v.Pos, Message: v.Message, Hint: v.Hint}.String())
	}
	return strings.Join(out, "\n")
}

func TestCheck(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                    "",
		`{"permision": "deny"}`: `f.json:1:2: unknown key "permision" in opencode.json (did you mean "permission"?)`,
		`{"mcp": {"g": {"type": "local", "comand": ["x"]}}}`: `f.json:1:15: mcp.g: "command" is missing (write command = [ … ])
f.json:1:33: unknown key "comand" in mcp.g (did you mean "command"?)`,
		`{"mcp": {"g": {"command": ["x"]}}}`:                             `f.json:1:15: mcp.g: "type" is missing (write type = "local")`,
		`{"mcp": {"g": {"type": "lcoal", "command": ["x"]}}}`:            `f.json:1:24: mcp.g.type: "lcoal" is not one of "local", "remote" (did you mean "local"?)`,
		`{"mcp": {"g": {"type": "local", "command": "npx"}}}`:            `f.json:1:44: mcp.g.command: expected a list, not a string (write ["npx"])`,
		`{"mcp": {"g": {"type": "local", "command": ["x"], "env": {}}}}`: `f.json:1:51: unknown key "env" in mcp.g (opencode's name is environment)`,
		`{"mcp": {"g": {"type": "remote", "url": "u", "oauth": true}}}`:  `f.json:1:55: mcp.g.oauth: true is not one of false, a table of keys`,
		`{"share": "maunal"}`:                                    `f.json:1:11: share: "maunal" is not one of "manual", "auto", "disabled" (did you mean "manual"?)`,
		`{"share": "{env:SHARE}"}`:                               "",
		`{"permission": "{env:P}"}`:                              "",
		`{"permission": {"bash": {"git *": "alow"}}}`:            `f.json:1:35: permission.bash."git *": "alow" is not one of "ask", "allow", "deny" (did you mean "allow"?)`,
		`{"permission": {"bash": true}}`:                         `f.json:1:25: permission.bash: expected a string or a table of keys, not true or false`,
		`{"subagent_depth": -1}`:                                 `f.json:1:20: subagent_depth: -1 is too small: at least 0`,
		`{"agent": {"a": {"steps": 1.5}}}`:                       `f.json:1:27: agent.a.steps: expected a whole number, not a number with a fraction`,
		`{"agent": {"a": {"steps": "{env:N}"}}}`:                 `f.json:1:27: agent.a.steps: expected a whole number, not a string (opencode fills in references inside of strings only)`,
		`{"agent": {"a": {"steps": 2.0, "color": "#fff"}}}`:      `f.json:1:41: agent.a.color: "#fff" is not one of "primary", "secondary", "accent", "success", "warning", "error", "info", of the form ^#[0-9a-fA-F]{6}$`,
		`{"agent": {"a": {"anything": 1}}}`:                      "",
		`{"autoupdate": "never"}`:                                `f.json:1:16: autoupdate: "never" is not one of "notify", true or false`,
		`{"plugin": [["a"]]}`:                                    `f.json:1:13: plugin.0: 1 elements are too few: at least 2`,
		`{"lsp": {"x": {"command": ["a"], "environment": {}}}}`:  `f.json:1:34: unknown key "environment" in lsp.x (opencode's name is env here)`,
		`{"lsp": {"x": {"disabled": true}}, "formatter": false}`: "",
		`{"lsp": {"x": {}}}`:                                     `f.json:1:15: lsp.x: "disabled" or "command" is missing (write one of them)`,
		`{"username": null}`:                                     `f.json:1:14: username: expected a string, not null`,
	} {
		if got := check(t, Builtin().Config, text); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", text, got, want)
		}
	}
}

func TestCheckTUI(t *testing.T) {
	for text, want := range map[string]string{
		`{"theme": "x", "keybinds": {"leader": "ctrl+x", "session_new": false, "app_exit": ["q", {"key": "z"}]}}`: "",
		`{"keybinds": {"sesion_new": "a"}}`:   `f.json:1:15: unknown key "sesion_new" in keybinds (did you mean "session_new"?)`,
		`{"keybinds": {"session_new": true}}`: `f.json:1:30: keybinds.session_new: true is not one of false, a string, a table of keys, a list`,
		`{"prompt": {"max_width": "wide"}}`:   `f.json:1:26: prompt.max_width: "wide" is not one of "auto", a whole number`,
		`{"attention": {"volume": 2}}`:        `f.json:1:26: attention.volume: 2 is too large: at most 1`,
	} {
		if got := check(t, Builtin().TUI, text); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", text, got, want)
		}
	}
}

// TestDecode: what is read here by the short way is what the library reads.
func TestDecode(t *testing.T) {
	for _, s := range []*Schema{Builtin().Config, Builtin().TUI} {
		short, err := decode(s.text)
		if err != nil {
			t.Fatal(err)
		}
		var long *jsonschema.Schema
		if err := json.Unmarshal(s.text, &long); err != nil {
			t.Fatal(err)
		}
		a, err := json.Marshal(short)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(long)
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			t.Errorf("%s differs", s.file)
		}
	}
	// A keyword that is not known here is the library's to read.
	s := New(ConfigFile, []byte(`{"type": "object", "properties": {"a": {"type": "string", "maxLength": 2}}}`))
	if got := check(t, s, `{"a": "ab"}`); got != "" {
		t.Error(got)
	}
	table, _ := document.ParseJSON("f", []byte(`{"a": "abc"}`))
	if _, err := s.Check(table); err == nil || !strings.Contains(err.Error(), "maxLength") {
		t.Errorf("got %v", err)
	}
}
