package config

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/schema"
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
	for _, c := range []struct{ name, toml, want string }{
		{"nothing", "", `{"$schema":"https://opencode.ai/config.json"}` + "\n"},
		{"order of a permission map", `
permission = { "*" = "ask", "git_*" = "allow", bash = "deny" }`, `{
  "$schema": "https://opencode.ai/config.json",
  "permission": {"*":"ask","git_*":"allow","bash":"deny"}
}
`},
		{"long things are indented, references pass literally", `
"$schema" = "https://opencode.ai/config.json"
share = "disabled"
[provider.openai.options]
apiKey = "{env:KEY}"
timeout = 15
headers = { Authorization = "Bearer <{file:/run/secrets/token}>", Other = "& long enough to need lines" }`, `{
  "$schema": "https://opencode.ai/config.json",
  "share": "disabled",
  "provider": {
    "openai": {
      "options": {
        "apiKey": "{env:KEY}",
        "timeout": 15,
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
		bundle, problems := Load(nil, "", Source{Table: table(t, c.toml), Name: "c.toml"})
		out, more := Compose(Input{Bundle: bundle, Schemas: schema.Builtin()})
		got := out.Config
		if len(problems) > 0 || len(more) > 0 {
			t.Errorf("%s: %v %v", c.name, problems, more)
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
		`"$schema" = "x"`:       "c.toml:1:13: $schema of opencode.json is always",
		"a = 9007199254740993":  "c.toml:1:5: a: 9007199254740993 is too large",
		"a = [1, inf]":          "c.toml:1:9: a.1: JSON has no",
		"a = { b = nan }":       "c.toml:1:11: a.b: JSON has no",
		"a = 2024-01-01":        "c.toml:1:5: a: JSON has no dates",
		"a = [[07:00:00]]":      "c.toml:1:7: a.0.0: JSON has no dates",
		"[x]\ny.z = 1979-05-27": "c.toml:2:7: x.y.z: JSON has no dates",
	} {
		bundle, _ := Load(nil, "", Source{Table: table(t, text), Name: "c.toml"})
		out, problems := Compose(Input{Bundle: bundle, Schemas: schema.Builtin(), AllowUnknown: true})
		problems = problems.Errors()
		if out.Config != nil || len(problems) != 1 || !strings.HasPrefix(problems[0].String(), want) {
			t.Errorf("%s: got %q %v, want %s", text, out.Config, problems, want)
		}
	}
}

// A locked configuration names what the project instructs by absolute path.
func TestInstructionsOfAProject(t *testing.T) {
	l := table(t, `instructions = ["a.md", "/p/AGENTS.md", "~/b.md", "https://x/c.md", "docs/*.md"]`)
	bundle, _ := Load(nil, "", Source{Table: l, Name: "c.toml"})
	got, problems := Compose(Input{Bundle: bundle, Schemas: schema.Builtin(), Project: "/p"})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := `["/p/a.md","/p/AGENTS.md","~/b.md","https://x/c.md","/p/docs/*.md","/p/CLAUDE.md"]`
	var out struct{ Instructions json.RawMessage }
	if err := json.Unmarshal(got.Config, &out); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, out.Instructions); err != nil || b.String() != want {
		t.Errorf("got %s %v, want %s", b.String(), err, want)
	}
	list, _ := l.Get("instructions").List()
	if len(list) != 5 || list[0].Data != "a.md" {
		t.Error("Compose changed its input")
	}
}

// An agent that is called primary has that mode, unless it says another.
func TestPrimaryAgents(t *testing.T) {
	l := table(t, `
agent.a = { primary = true, prompt = "x" }
agent.b = { primary = true, mode = "all" }
agent.c = { primary = false }
agent.d = { mode = "primary" }`)
	bundle, _ := Load(nil, "", Source{Table: l, Name: "c.toml"})
	got, problems := Compose(Input{Bundle: bundle, Schemas: schema.Builtin()})
	want := `{"agent":{"a":{"primary":true,"prompt":"x","mode":"primary"},"b":{"primary":true,"mode":"all"},"c":{"primary":false},"d":{"mode":"primary"}}}`
	out, _ := document.ParseJSON("o", got.Config)
	out.Delete("$schema")
	if text(out) != want || len(problems) > 0 {
		t.Errorf("got %s %v\nwant %s", text(out), problems, want)
	}
}
