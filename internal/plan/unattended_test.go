package plan

import (
	"slices"
	"strings"
	"testing"
)

// TestUnattended: what the daemon does by itself. It never starts what somebody has stopped, or what systemd has given
// up, and still keeps its files.
func TestUnattended(t *testing.T) {
	const text = `version = 1
[instances.a]
directory = "/srv/a"
[instances.b]
directory = "/srv/b"
listen.port = 8081
`
	want := desire(t, parse(t, text), fixed(parse(t, text)))
	for n := range want.Targets {
		want.Targets[n].NewAccount = false
	}
	const unitFile = "/etc/systemd/system/opencode-a.service"
	for _, c := range []struct {
		name    string
		unit    Unit
		edited  bool // the unit file
		missing bool
		action  Action // of a; "" for nothing to do
		start   bool
		held    bool
	}{
		{name: "running", unit: Unit{Active: "active", Generation: want.Targets[0].Generation.String()}},
		{name: "never started since the boot", unit: Unit{Active: "inactive"}, action: ActStart, start: true},
		{name: "stopped by somebody", unit: Unit{Active: "inactive", Ran: true}, held: true},
		{name: "stopped by somebody, and edited", unit: Unit{Active: "inactive", Ran: true}, edited: true, action: ActUpdate, held: true},
		{name: "given up", unit: Unit{Active: "failed"}, held: true},
		{name: "given up, and mended", unit: Unit{Active: "failed"}, edited: true, action: ActStart, start: true},
		{name: "on its way", unit: Unit{Active: "activating", Sub: "auto-restart"}, held: true},
		{name: "new under the name of an old one", unit: Unit{Active: "inactive", Ran: true}, missing: true, action: ActCreate, start: true},
	} {
		have := converged(want)
		c.unit.Enabled = true
		have.Units["opencode-a.service"] = c.unit
		if c.edited {
			have.Paths[unitFile] = Path{Exists: true, Mode: 0o644, Content: "something else"}
		}
		if c.missing {
			have.Paths[unitFile] = Path{}
		}
		todo, held := Diff(want, have).Unattended(have)
		lane := todo.Lane("a")
		switch {
		case lane == nil && c.action != "" || lane != nil && lane.Action != c.action:
			t.Errorf("%s: %v, want %q", c.name, lane, c.action)
		case lane != nil && slices.ContainsFunc(lane.Steps, func(s Step) bool { return s.Verb == Start }) != c.start:
			t.Errorf("%s: start is not %v: %v", c.name, c.start, lane.Steps)
		case slices.Contains(held, "a") != c.held:
			t.Errorf("%s: held: %v", c.name, held)
		case todo.Lane("b") != nil:
			t.Errorf("%s: something to do for b", c.name)
		}
	}
}

// TestRestartOutdated adds what waits, and nothing else.
func TestRestartOutdated(t *testing.T) {
	p := Plan{Lanes: []Lane{
		{Instance: "a", Action: ActNone, Outdated: []string{"opencode 1.18.34"}},
		{Instance: "b", Action: ActNone},
		{Instance: "c", Action: ActUpdate, Steps: []Step{{Verb: Change, Kind: KindUnit}}, Outdated: []string{"opencode 1.18.34"}},
	}}
	if !(Plan{Lanes: p.Lanes[:2]}).Empty() {
		t.Error("what waits for a restart counts as something to do")
	}
	all := p.RestartOutdated()
	for n, want := range []int{1, 0, 2} {
		l := all.Lanes[n]
		if len(l.Steps) != want || l.Rolling != (want > 0) || want > 0 && l.Action != ActRestart {
			t.Errorf("%s: %+v", l.Instance, l)
		}
	}
	if why := strings.Join(all.Lanes[0].Why, ""); why != "to run opencode 1.18.34" {
		t.Error(why)
	}
	if len(p.Lanes[2].Steps) != 1 {
		t.Error("the plan itself has changed")
	}
}
