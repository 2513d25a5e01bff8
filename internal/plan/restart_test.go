package plan

import (
	"strings"
	"testing"
)

// TestWhatRestarts: a running instance is only restarted by what its process was
// started with, and the plan names it. Everything else is done under its feet.
func TestWhatRestarts(t *testing.T) {
	const base = `version = 1
[instances.a]
directory = "/srv/a"
environment_file = "/run/secrets/a.env"
network_isolation = { enable = true, outbound_allow_cidrs = ["10.0.0.0/8"] }
`
	for _, c := range []struct {
		name   string
		toml   string // takes the place of base, or is added to it
		facts  func(*Facts)
		action Action
		why    string
		// what a restart would bring
		outdated string
		steps    string // some of them, by name
	}{
		{name: "nothing", action: ActNone},
		{name: "allowlist", toml: strings.Replace(base, "10.0.0.0/8", "192.0.2.0/24", 1), action: ActUpdate, steps: "opencode-a"},
		{name: "an empty allowlist", toml: strings.Replace(base, `"10.0.0.0/8"`, "", 1), action: ActUpdate, steps: "opencode-a"},
		{name: "isolation off", toml: strings.Replace(base, "enable = true, outbound_allow_cidrs = [\"10.0.0.0/8\"]", "enable = false", 1), action: ActUpdate, steps: "opencode-a"},
		{name: "reject instead of drop", toml: strings.Replace(base, "enable", `on_block = "reject", enable`, 1), action: ActUpdate, steps: "opencode-a"},
		{name: "log rate", toml: strings.Replace(base, "enable", `log_rate = "1/hour", enable`, 1), action: ActUpdate, steps: "opencode-a"},
		{name: "time to start", toml: base + "start_timeout = \"5m\"\n", action: ActNone},

		{name: "configuration", toml: base + "config.share = \"disabled\"\n", action: ActRestart, why: "configuration changed"},
		{name: "model", toml: base + "model = \"anthropic/b\"\n", action: ActRestart, why: "configuration changed"},
		{name: "environment", toml: base + "environment.A = \"1\"\n", action: ActRestart, why: "unit changed"},
		{name: "port", toml: base + "listen.port = 9000\n", action: ActRestart, why: "unit changed"},
		{name: "hook", toml: base + "hooks.pre_init = \"true\"\n", action: ActRestart, why: "unit changed, set-up changed"},
		{name: "directory", toml: strings.Replace(base, "/srv/a", "/srv/other", 1), action: ActRestart, why: "unit changed, configuration changed"},
		{name: "environment file", facts: func(f *Facts) { f.Environment["/run/secrets/a.env"] = []byte("TOKEN=other\n") },
			action: ActRestart, why: "environment file changed"},
		{name: "password", facts: func(f *Facts) { f.Passwords["a"] = "other" }, action: ActRestart, why: "environment file changed"},
		{name: "binary", facts: func(f *Facts) {
			f.Binaries[""] = Binary{Resolved: opencodeBinary, Stamp: "replaced", Version: "1.18.34"}
		},
			action: ActUpdate, outdated: "opencode 1.18.34"},
		{name: "another opencode behind a link", facts: func(f *Facts) { f.Binaries[""] = Binary{Resolved: "/opt/opencode-2", Stamp: "replaced"} },
			action: ActUpdate, outdated: "opencode"},
		{name: "another opencoded", facts: func(f *Facts) { f.Author, f.Sandbox.Shell = "replaced", "/bin/sh" },
			action: ActUpdate, outdated: "what this opencoded renders"},
		{name: "another opencoded that renders the same", facts: func(f *Facts) { f.Author = "replaced" }, action: ActUpdate},
		{name: "another opencoded, and environment file", facts: func(f *Facts) {
			f.Author, f.Sandbox.Shell, f.Environment["/run/secrets/a.env"] = "replaced", "/bin/sh", []byte("TOKEN=other\n")
		}, action: ActRestart, why: "environment file changed"},
		{name: "key lost", facts: func(f *Facts) { f.Key = []byte("another") }, action: ActRestart,
			why: "environment file changed, credential changed"},
	} {
		before := desire(t, parse(t, base), fixed(parse(t, base)))
		before.Targets[0].NewAccount = false
		have := converged(before)

		if c.toml == "" {
			c.toml = base
		}
		inv := parse(t, c.toml)
		facts := fixed(inv)
		if c.facts != nil {
			c.facts(&facts)
		}
		want := desire(t, inv, facts)
		want.Targets[0].NewAccount = false
		lane := Diff(want, have).Lane("a")
		if lane.Action != c.action || strings.Join(lane.Why, ", ") != c.why {
			t.Errorf("%s: %s (%s), want %s (%s)", c.name, lane.Action, strings.Join(lane.Why, ", "), c.action, c.why)
		}
		if got := strings.Join(lane.Outdated, ", "); got != c.outdated {
			t.Errorf("%s: outdated: %s, want %s", c.name, got, c.outdated)
		}
		found := c.steps == ""
		for _, s := range lane.Steps {
			found = found || s.Name == c.steps
			if c.action == ActUpdate && s.Kind == KindService {
				t.Errorf("%s: %s %s", c.name, s.Verb, s.Name)
			}
		}
		if !found {
			t.Errorf("%s: nothing about %s in %v", c.name, c.steps, lane.Steps)
		}
	}
}

func TestGenerationHidesWhatWentIn(t *testing.T) {
	key := []byte("key")
	a, b := hash(key, "unit", "ab", "c"), hash(key, "unit", "a", "bc")
	if a == b {
		t.Error("the parts of a hash run into each other")
	}
	if hash([]byte("other"), "unit", "ab", "c") == a {
		t.Error("the hash does not depend on the key")
	}
	g := Generation{a, hash(key, "set-up", "x")}
	if restart, waiting := g.Changed("", g.String()); restart != nil || waiting != nil {
		t.Errorf("a generation differs from itself: %v %v", restart, waiting)
	}
}
