package config

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/document"
)

func table(t *testing.T, text string) *document.Table {
	t.Helper()
	out, problems := document.ParseTOML("c.toml", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return out
}

func TestCompose(t *testing.T) {
	for _, c := range []struct{ name, toml, model, want string }{
		{"nothing", "", "", `{"$schema":"https://opencode.ai/config.json"}` + "\n"},
		{"order of a permission map", `
permission = { "*" = "ask", "git *" = "allow", bash = "deny" }`, "a/b", `{
  "$schema": "https://opencode.ai/config.json",
  "permission": {"*":"ask","git *":"allow","bash":"deny"},
  "model": "a/b"
}
`},
		{"long things are indented, references pass literally", `
"$schema" = "https://opencode.ai/config.json"
share = "disabled"
[provider.x.options]
apiKey = "{env:KEY}"
timeout = 1.5
headers = { Authorization = "Bearer <{file:/run/secrets/token}>", Other = "& long enough to need lines" }`, "", `{
  "$schema": "https://opencode.ai/config.json",
  "share": "disabled",
  "provider": {
    "x": {
      "options": {
        "apiKey": "{env:KEY}",
        "timeout": 1.5,
        "headers": {
          "Authorization": "Bearer <{file:/run/secrets/token}>",
          "Other": "& long enough to need lines"
        }
      }
    }
  }
}
`},
	} {
		got, problems := Compose(Input{Layers: []*document.Table{table(t, c.toml)}, Model: c.model})
		if len(problems) > 0 {
			t.Errorf("%s: %v", c.name, problems)
		}
		if string(got) != c.want {
			t.Errorf("%s: got\n%swant\n%s", c.name, got, c.want)
		}
		if !json.Valid(got) {
			t.Errorf("%s: not JSON", c.name)
		}
	}
}

func TestComposeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`"$schema" = "x"`:       "c.toml:1:13: $schema is always",
		"a = 9007199254740993":  "c.toml:1:5: 9007199254740993 is too large",
		"a = [1, inf]":          "c.toml:1:9: JSON has no",
		"a = { b = nan }":       "c.toml:1:11: JSON has no",
		"a = 2024-01-01":        "c.toml:1:5: JSON has no dates",
		"a = [[07:00:00]]":      "c.toml:1:7: JSON has no dates",
		"[x]\ny.z = 1979-05-27": "c.toml:2:7: JSON has no dates",
	} {
		out, problems := Compose(Input{Layers: []*document.Table{table(t, text)}})
		if out != nil || len(problems) != 1 || !strings.HasPrefix(problems[0].String(), want) {
			t.Errorf("%s: got %q %v, want %s", text, out, problems, want)
		}
	}
}

func TestInstructionsAreAddedOnce(t *testing.T) {
	in := Input{Layers: []*document.Table{table(t, `instructions = ["a.md", "/p/AGENTS.md"]`)}, Instructions: []string{"/p/AGENTS.md", "/p/CLAUDE.md"}}
	got, _ := Compose(in)
	if want := `"instructions": ["a.md","/p/AGENTS.md","/p/CLAUDE.md"]`; !strings.Contains(string(got), want) {
		t.Errorf("got %s, want %s", got, want)
	}
	list, _ := in.Layers[0].Get("instructions").List()
	if len(list) != 2 {
		t.Error("Compose changed its input")
	}
}
