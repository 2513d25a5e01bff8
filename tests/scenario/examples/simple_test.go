package examples

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// simple: four agents, two skills that load when a task calls for them.
func simple(t *testing.T) {
	const home = "/var/lib/opencode/instance-state/assistant/.config/opencode/"
	collect := "sh " + home + "skills/release-notes/scripts/collect.sh"
	model := serveModel(t, map[string][]toolCall{
		"general": {
			{"skill", map[string]any{"name": "commit-messages"}},
			{"skill", map[string]any{"name": "release-notes"}},
			{"bash", map[string]any{"command": collect, "description": "Collects what is new"}},
			{"bash", map[string]any{"command": "sudo touch /srv/project/planted", "description": "Becomes root"}},
			{"task", map[string]any{"subagent_type": "build", "description": "Goes around", "prompt": "Begin."}},
		},
		"explorer": {
			{"bash", map[string]any{"command": "git log --oneline", "description": "Reads the history"}},
			{"bash", map[string]any{"command": "touch planted", "description": "Writes a file"}},
		},
	})
	operator.Sh(t, `mkdir -p /srv/project && cd /srv/project && git init -q && git -c user.name=a -c user.email=a@example.org commit -q --allow-empty -m "The first one" && chmod -R a+rwX .`)
	install(t, "simple-coding-assistant", map[string]string{
		"/etc/opencode/assistant.env": "echo ANTHROPIC_API_KEY=placeholder >> $1",
		// A model that answers here; the agents name none of their own.
		"/etc/opencode/instances.toml": fmt.Sprintf(`cat >> $1 <<'END'

[instances.assistant.config.provider.scripted]
npm = "@ai-sdk/openai-compatible"
options = { baseURL = "http://%s/v1", apiKey = "unused" }
models = { general = {}, explorer = {} }
END`, model.address),
	})
	a := enter(t, "assistant")

	var config struct {
		Model, Share, Username string
		DefaultAgent           string `json:"default_agent"`
		Permission             struct{ Bash, Skill any }
	}
	a.call(t, "GET", "/config", "", &config)
	operator.Same(t, "model", config.Model, "anthropic/claude-sonnet-4-5")
	operator.Same(t, "share", config.Share, "disabled")
	operator.Same(t, "username, which the inventory sets", config.Username, "project")
	operator.Same(t, "default agent", config.DefaultAgent, "general")

	listed := a.agents(t)
	sameAgents(t, listed, files(t, "/etc/opencode/agents"), "build", "explore", "plan")
	sameDecisions(t, listed, []decision{
		{"general", "edit", "main.go", "allow"}, {"general", "bash", "make test", "allow"}, {"general", "bash", "sudo ls", "deny"},
		{"general", "bash", "git push", "ask"}, {"general", "bash", "git push origin main", "ask"},
		{"general", "read", "main.go", "allow"}, {"general", "read", "sub/.env", "deny"}, {"general", "read", ".env.example", "allow"},
		{"general", "task", "reviewer", "allow"}, {"general", "task", "build", "deny"},
		{"explorer", "edit", "main.go", "deny"}, {"explorer", "bash", "git log -1", "allow"}, {"explorer", "bash", "make", "deny"},
		{"implementer", "edit", "main.go", "allow"}, {"implementer", "task", "reviewer", "deny"},
		{"reviewer", "edit", "main.go", "deny"}, {"reviewer", "bash", "go test ./...", "allow"}, {"reviewer", "bash", "rm x", "deny"},
	})

	skills := a.skills(t)
	operator.Same(t, "number of skills", len(skills), 2)
	for _, name := range []string{"commit-messages", "release-notes"} {
		operator.Same(t, "location of "+name, skills[name].Location, home+"skills/"+name+"/SKILL.md")
		operator.Contains(t, "SKILL.md", operator.Read(t, "/etc/opencode/skills/"+name+"/SKILL.md"), skills[name].Description)
	}
	operator.Same(t, "agent of /review", a.commands(t)["review"].Agent, "reviewer")
	operator.Contains(t, "template of /review", a.commands(t)["review"].Template, "git diff --stat")

	// At run time: both skills load, the script of one runs, and what is denied is
	// refused whoever asks for it.
	got := a.prompt(t, "general", `"model":{"providerID":"scripted","modelID":"general"},`)
	operator.Same(t, "number of tool calls", len(got), 5)
	wantCall(t, got, 0, "skill", "completed", "A commit message is read by somebody")
	wantCall(t, got, 1, "skill", "completed", "Base directory for this skill")
	wantCall(t, got, 2, "bash", "completed", "The first one")
	wantCall(t, got, 3, "bash", "error", "rule which prevents you")
	wantCall(t, got, 4, "task", "error", "rule which prevents you")

	b := enter(t, "assistant")
	got = b.prompt(t, "explorer", `"model":{"providerID":"scripted","modelID":"explorer"},`)
	operator.Same(t, "number of tool calls", len(got), 2)
	wantCall(t, got, 0, "bash", "completed", "The first one")
	wantCall(t, got, 1, "bash", "error", "rule which prevents you")
	operator.Same(t, "what is in the project", operator.Sh(t, "ls /srv/project"), "")
	operator.Same(t, "edit is offered to general", model.asked("general")[0].offers("edit"), true)
	operator.Same(t, "edit is offered to explorer", model.asked("explorer")[0].offers("edit"), false)

	// A line less in a layer is an agent less.
	operator.Sh(t, `sed -i '/^explorer = /d' /etc/opencode/assistant.toml`)
	operator.Must(t, "opencoded", "apply")
	operator.NothingToDo(t)
	a = enter(t, "assistant")
	if _, still := a.agents(t)["explorer"]; still {
		t.Error("explorer is listed although it was taken out")
	}
	out, _, err := a.Run(t.Context(), "cd ~/.config/opencode/agents && echo *")
	if err != nil {
		t.Fatal(err)
	}
	operator.Same(t, "files of agents, seen from inside", out, "general.md implementer.md reviewer.md")
}

// wantCall compares what became of one tool call.
func wantCall(t *testing.T, got []toolResult, n int, tool, status, text string) {
	t.Helper()
	if n >= len(got) || got[n].Tool != tool || got[n].Status != status || !strings.Contains(got[n].Output+got[n].Error, text) {
		t.Errorf("tool call %d is not %s, %s, with %q: %+v", n, tool, status, text, got)
	}
}
