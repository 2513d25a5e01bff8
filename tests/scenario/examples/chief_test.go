package examples

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// chief: many agents, models by environment, and nothing allowed that no
// layer allows.
func chief(t *testing.T) {
	model := serveModel(t, map[string][]toolCall{
		"coder-large": {
			{"skill", map[string]any{"name": "handing-over"}},
			{"bash", map[string]any{"command": "touch planted", "description": "Writes a file"}},
			{"task", map[string]any{"subagent_type": "build", "description": "Asks", "prompt": "Begin."}},
			{"task", map[string]any{"subagent_type": "explore/history", "description": "Asks", "prompt": "Begin."}},
		},
		"coder-small": {
			{"bash", map[string]any{"command": "git log --oneline", "description": "Reads the history"}},
			{"bash", map[string]any{"command": "touch planted", "description": "Writes a file"}},
			{"read", map[string]any{"filePath": "/srv/project/.env"}},
			{"read", map[string]any{"filePath": "/srv/project/.env.example"}},
		},
	})
	operator.Sh(t, `mkdir -p /srv/project && cd /srv/project && git init -q && git -c user.name=a -c user.email=a@example.org commit -q --allow-empty -m "The first one"
echo KEY=hidden > .env; echo KEY=shown > .env.example; chmod -R a+rwX .`)
	install(t, "chief-coding-assistant", map[string]string{
		"/etc/opencode/chief.env": fmt.Sprintf(`sed -i -e 's,^CHIEF_MODEL=.*,CHIEF_MODEL=house/coder-large,' -e 's,^CHIEF_SMALL_MODEL=.*,CHIEF_SMALL_MODEL=house/coder-small,' \
	-e 's,^CHIEF_HOUSE_URL=.*,CHIEF_HOUSE_URL=http://%s/v1,' -e 's,^\([A-Z]*_API_KEY\)=,\1=placeholder,' -e 's,^TRACKER_TOKEN=,TRACKER_TOKEN=ticket,' $1`, model.address),
		"/etc/opencode/instances.toml": ":",
	})
	a := enter(t, "chief")
	chiefConfiguration(t, a)

	agents := files(t, "/etc/opencode/agents")
	listed := a.agents(t)
	operator.Same(t, "fifteen agents or more", len(agents) >= 15, true)
	sameAgents(t, listed, agents) // and none of opencode's own
	for name, agent := range listed {
		sameDecisions(t, map[string]listedAgent{name: agent}, []decision{
			{name, "a-tool-that-nobody-knows", "anything", "deny"}, {name, "websearch", "anything", "deny"}, {name, "external_directory", "/etc/*", "deny"},
			{name, "read", "main.go", "allow"}, {name, "read", "sub/.env", "deny"}, {name, "read", ".env.example", "allow"},
			{name, "bash", "curl example.com", "deny"}, {name, "webfetch", "https://example.com", "ask"}, {name, "tracker_get_issue", "*", "allow"}, {name, "tracker_close_issue", "*", "ask"},
		})
		if !strings.HasPrefix(name, "expert/") {
			operator.Same(t, "edit by "+name, agent.decide("edit", "main.go"), "deny")
		}
		if name != "chief" {
			operator.Same(t, "task by "+name, agent.decide("task", "expert/go"), "deny")
		}
	}
	operator.Same(t, "order of the chief's rules", ownRules(listed["chief"]),
		"* glob grep list lsp question todowrite doom_loop read skill repository_* tracker_* tracker_get_* tracker_search_* webfetch task external_directory")
	sameDecisions(t, listed, []decision{
		{"chief", "task", "expert/go", "allow"}, {"chief", "task", "build", "deny"}, {"chief", "bash", "ls", "deny"},
		{"expert/go", "edit", "main.go", "allow"}, {"expert/go", "bash", "go test ./...", "allow"}, {"expert/rust", "bash", "go test ./...", "deny"},
		{"tester", "edit", "internal/x_test.go", "allow"}, {"writer", "edit", "README.md", "allow"},
		{"review/security", "bash", "git diff HEAD", "allow"}, {"explore/codebase", "bash", "git log", "deny"}, {"explore/history", "bash", "git log", "allow"},
	})
	for name, want := range map[string]string{"review/security": "openai/gpt-5", "explore/history": "house/coder-small", "expert/go": "/"} {
		operator.Same(t, "model of "+name, listed[name].Model.ProviderID+"/"+listed[name].Model.ModelID, want)
	}
	operator.Same(t, "temperature of review/docs, which the personal layer overrides", listed["review/docs"].Temperature, 0.4)

	operator.Contains(t, "skill", a.skills(t)["handing-over"].Content, "It has not seen this")
	for name, agent := range map[string]string{"plan": "chief", "review": "chief", "check/tests": "tester"} {
		operator.Same(t, "agent of /"+name, a.commands(t)[name].Agent, agent)
	}
	chiefAtWork(t, a, model)
	chiefWithout(t)
}

// ownRules names the permissions that an agent has rules for, in their order,
// from the general denial on; what stands before it has no effect any more.
func ownRules(a listedAgent) string {
	denied := slices.Index(a.Permission, rule{"*", "*", "deny"})
	if denied < 0 {
		return ""
	}
	var out []string
	for _, r := range a.Permission[denied:] {
		out = append(out, r.Permission)
	}
	return strings.Join(slices.Compact(out), " ")
}

// chiefConfiguration: what opencode loaded is what the three layers and the
// environment say.
func chiefConfiguration(t *testing.T, a server) {
	var config struct {
		Model, Username string
		SmallModel      string `json:"small_model"`
		Instructions    []string
		Provider        map[string]struct {
			Npm     string
			Options map[string]any
			Models  map[string]struct {
				Limit      struct{ Context, Output int }
				Cost       struct{ Input, Output float64 }
				Modalities struct{ Input []string }
			}
		}
		MCP map[string]struct {
			Enabled bool
			Command []string
			Headers map[string]string
		}
	}
	a.call(t, "GET", "/config", "", &config)
	operator.Same(t, "model", config.Model, "house/coder-large")
	operator.Same(t, "small model", config.SmallModel, "house/coder-small")
	operator.Same(t, "username, which the inventory sets", config.Username, "team")
	operator.Same(t, "providers", fmt.Sprint(slices.Sorted(maps.Keys(config.Provider))), "[anthropic house openai]")
	operator.Same(t, "package of our own provider", config.Provider["house"].Npm, "@ai-sdk/openai-compatible")
	large := config.Provider["house"].Models["coder-large"]
	operator.Same(t, "a model's limits and modalities", fmt.Sprint(large.Limit, large.Cost, large.Modalities.Input), "{131072 16384} {0 0} [text image]")
	operator.Same(t, "a key of the environment", config.Provider["openai"].Options["apiKey"], any("placeholder"))
	operator.Same(t, "command of the local MCP server", strings.Join(config.MCP["repository"].Command, " "), "mcp-server-git --repository .")
	operator.Same(t, "header of the remote one", config.MCP["tracker"].Headers["Authorization"], "Bearer ticket")
	var status map[string]struct{ Status string }
	a.call(t, "GET", "/mcp", "", &status)
	operator.Same(t, "MCP servers", fmt.Sprint(status), "map[repository:{disabled} tracker:{disabled}]")
	// The shell endpoint, by which other scenarios look inside, asks for the agent
	// "build", which there is none of here. The directory is the same from outside.
	const inside, outside = "/var/lib/opencode/instance-state/chief/.config/opencode", "/var/lib/opencoded/instances/chief/config"
	operator.Contains(t, "house rules", operator.Read(t, strings.Replace(config.Instructions[0], inside, outside, 1)), "A refused permission is an answer")
	operator.Contains(t, "tui.json", operator.Read(t, outside+"/tui.json"), `"theme": "catppuccin"`)

	var providers struct{ Providers []struct{ ID string } }
	a.call(t, "GET", "/config/providers", "", &providers)
	var ids []string
	for _, p := range providers.Providers {
		ids = append(ids, p.ID)
	}
	slices.Sort(ids)
	operator.Same(t, "providers in use", strings.Join(ids, " "), "anthropic house openai")
}

// chiefAtWork: the chief loads its skill and hands a task to an explorer, which
// runs on another model. Neither gets what its permissions do not give.
func chiefAtWork(t *testing.T, a server, model *scriptedModel) {
	got := a.prompt(t, "chief", "")
	operator.Same(t, "number of tool calls", len(got), 4)
	wantCall(t, got, 0, "skill", "completed", "It has not seen this")
	wantCall(t, got, 1, "bash", "error", "unavailable tool")
	wantCall(t, got, 2, "task", "error", "rule which prevents you")
	wantCall(t, got, 3, "task", "completed", "Done.")

	var children []struct{ ID string }
	a.call(t, "GET", "/session/"+a.Session()+"/children", "", &children)
	if len(children) != 1 {
		t.Fatalf("the chief has %d tasks under way, want 1", len(children))
	}
	got = a.results(t, children[0].ID)
	operator.Same(t, "number of the explorer's tool calls", len(got), 4)
	wantCall(t, got, 0, "bash", "completed", "The first one")
	wantCall(t, got, 1, "bash", "error", "rule which prevents you")
	wantCall(t, got, 2, "read", "error", "rule which prevents you")
	wantCall(t, got, 3, "read", "completed", "KEY=shown")
	operator.Same(t, "what is in the project", strings.Join(strings.Fields(operator.Sh(t, "ls -A /srv/project")), " "), ".env .env.example .git")

	for tool, want := range map[string]bool{"task": true, "skill": true, "bash": false, "edit": false, "write": false} {
		operator.Same(t, tool+" is offered to the chief", model.asked("coder-large")[0].offers(tool), want)
	}
	for tool, want := range map[string]bool{"task": false, "bash": true, "edit": false} {
		operator.Same(t, tool+" is offered to the explorer", model.asked("coder-small")[0].offers(tool), want)
	}
}

// chiefWithout: an agent that the inventory does not name any more is gone, from
// the disk and from the server; so is one that a layer does not name any more.
func chiefWithout(t *testing.T) {
	const dir = "/var/lib/opencoded/instances/chief/config/agents/"
	operator.Read(t, dir+"host/runbook.md")
	operator.Sh(t, `sed -i '/^"host\/runbook" = /d' /etc/opencode/instances.toml; sed -i '/^writer = /d' /etc/opencode/team-base.toml`)
	operator.Contains(t, "plan", operator.Must(t, "opencoded", "plan", "--summary"), "restart")
	operator.Must(t, "opencoded", "apply")
	operator.NothingToDo(t)
	operator.Same(t, "files of agents", operator.Sh(t, "cd "+dir+"; find . -name 'runbook*' -o -name host -o -name writer.md"), "")
	listed := enter(t, "chief").agents(t)
	for _, name := range []string{"host/runbook", "writer"} {
		if _, still := listed[name]; still {
			t.Errorf("%s is listed although it was taken out", name)
		}
	}
	operator.Same(t, "chief is still there", listed["chief"].Mode, "primary")
}
