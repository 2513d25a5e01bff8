package examples

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	inner "github.com/opencoded/opencoded/tests/agent"
	"github.com/opencoded/opencoded/tests/operator"
)

// server is a running instance, as its API shows it.
type server struct{ *inner.Agent }

// enter opens a session on a running instance.
func enter(t *testing.T, name string) server {
	t.Helper()
	s := operator.Status(t, name)
	if s.State != "healthy" {
		t.Fatalf("%s is %s", name, s.State)
	}
	_, password, _ := strings.Cut(strings.TrimSpace(operator.Read(t, "/var/lib/opencoded/instances/"+name+"/password.env")), "=")
	a, err := inner.Enter(t.Context(), s.Address, password)
	if err != nil {
		t.Fatal(err)
	}
	return server{a}
}

func (s server) call(t *testing.T, method, path, body string, into any) {
	t.Helper()
	if err := s.Call(t.Context(), method, path, body, into); err != nil {
		t.Fatal(err)
	}
}

// agentFile is an agent as its file says.
type agentFile struct{ mode, prompt string }

var modeLine = regexp.MustCompile(`(?m)^mode: (\w+)$`)

// files reads the agents of an example by name. The folders say who does what;
// of some they are part of the name. A file without a head is a prompt that a
// layer names, always of a subagent.
func files(t *testing.T, dir string) map[string]agentFile {
	t.Helper()
	out := map[string]agentFile{}
	for path, text := range tree(t, dir) {
		a := agentFile{mode: "subagent", prompt: string(text)}
		if rest, headed := strings.CutPrefix(a.prompt, "---\n"); headed {
			head, body, _ := strings.Cut(rest, "\n---\n")
			a.prompt = body
			if m := modeLine.FindStringSubmatch(head); m != nil {
				a.mode = m[1]
			}
		}
		a.prompt = strings.TrimSpace(a.prompt)
		name := strings.TrimSuffix(path, ".md")
		for _, group := range []string{"lead/", "work/"} {
			name = strings.TrimPrefix(name, group)
		}
		out[name] = a
	}
	return out
}

// listedAgent is an agent as opencode lists it.
type listedAgent struct {
	Name, Mode, Description, Prompt string
	Hidden                          bool
	Temperature                     float64
	Model                           struct{ ProviderID, ModelID string }
	Permission                      []rule
}

type rule struct{ Permission, Pattern, Action string }

// agents lists the agents that a person can see, by name.
func (s server) agents(t *testing.T) map[string]listedAgent {
	t.Helper()
	var list []listedAgent
	s.call(t, "GET", "/agent", "", &list)
	out := map[string]listedAgent{}
	for _, one := range list {
		if !one.Hidden {
			out[one.Name] = one
		}
	}
	return out
}

// sameAgents compares what opencode lists with the files; others are opencode's
// own.
func sameAgents(t *testing.T, listed map[string]listedAgent, files map[string]agentFile, others ...string) {
	t.Helper()
	want := slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Keys(files)), others)))
	operator.Same(t, "agents", fmt.Sprint(slices.Sorted(maps.Keys(listed))), fmt.Sprint(want))
	for name, file := range files {
		operator.Same(t, "mode of "+name, listed[name].Mode, file.mode)
		operator.Same(t, "prompt of "+name, listed[name].Prompt, file.prompt)
		operator.Same(t, name+" is described", listed[name].Description != "", true)
	}
}

// decide is what opencode makes of a request: the last rule that matches. The
// refusals of real tool calls, which the examples' tests see too, agree with it.
func (a listedAgent) decide(permission, pattern string) string {
	for _, r := range slices.Backward(a.Permission) {
		if matches(r.Permission, permission) && matches(r.Pattern, pattern) {
			return r.Action
		}
	}
	return "ask"
}

func matches(pattern, s string) bool {
	quoted := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
	// "git log *" is meant to match "git log" too.
	if rest, ok := strings.CutSuffix(quoted, " .*"); ok {
		quoted = rest + "( .*)?"
	}
	return regexp.MustCompile("(?s)^" + quoted + "$").MatchString(s)
}

// decision is what an agent must be told about a request.
type decision struct{ agent, permission, pattern, want string }

func sameDecisions(t *testing.T, listed map[string]listedAgent, table []decision) {
	t.Helper()
	for _, d := range table {
		operator.Same(t, fmt.Sprintf("%s: %s %s", d.agent, d.permission, d.pattern), listed[d.agent].decide(d.permission, d.pattern), d.want)
	}
}

// listedSkill is a skill as opencode lists it.
type listedSkill struct{ Name, Description, Location, Content string }

// skills lists the skills of the instance's configuration, by name.
func (s server) skills(t *testing.T) map[string]listedSkill {
	t.Helper()
	var list []listedSkill
	s.call(t, "GET", "/skill", "", &list)
	out := map[string]listedSkill{}
	for _, one := range list {
		if strings.Contains(one.Location, "/.config/opencode/skills/") {
			out[one.Name] = one
		}
	}
	return out
}

// listedCommand is a command as opencode lists it.
type listedCommand struct{ Name, Agent, Template string }

func (s server) commands(t *testing.T) map[string]listedCommand {
	t.Helper()
	var list []listedCommand
	s.call(t, "GET", "/command", "", &list)
	out := map[string]listedCommand{}
	for _, c := range list {
		out[c.Name] = c
	}
	return out
}
