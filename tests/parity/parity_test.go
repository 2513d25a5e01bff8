// Package parity holds opencoded's idea of a valid configuration against the real
// opencode: what one accepts the other loads, with the same values; what opencode
// rejects opencoded has rejected, naming the same key; and where opencoded is
// stricter, opencode is seen to drop what was said.
//
// The cases stand in testdata, an archive a section; cases.go says how.
package parity

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/tests/tier"
)

func TestParity(t *testing.T) {
	p := newPrograms(t, needOpencode(t))
	for _, kind := range []string{"accept", "reject", "stricter", "warned"} {
		for n, group := range groups(p, t, kind) {
			t.Run(fmt.Sprintf("%s-%d", kind, n), func(t *testing.T) {
				t.Parallel()
				p.hold(t, group)
			})
		}
	}
}

func needOpencode(t *testing.T) string {
	t.Helper()
	binary, err := tier.Opencode()
	tier.Need(t, "parity", err)
	return binary
}

// group are cases of one kind that can stand in one file without getting into
// each other's way: one run of opencode, which takes seconds, serves them all.
type group struct {
	cases []*testCase
	whole *document.Table
}

func groups(p *programs, t *testing.T, kind string) []*group {
	var out []*group
cases:
	for _, c := range readCases(t) {
		if c.kind != kind {
			continue
		}
		p.ours(t, c)
		if c.tui || t.Failed() && c.table == nil {
			continue
		}
		if !c.alone() {
			for _, g := range out {
				if !g.cases[0].alone() && apart(g.whole, c.table) {
					g.cases, g.whole = append(g.cases, c), document.Merge(g.whole, c.table)
					continue cases
				}
			}
		}
		out = append(out, &group{[]*testCase{c}, c.table})
	}
	return out
}

// alone reports whether a case would keep opencode from saying anything about
// others in its file: it ends at a file that is no JSON, at a reference that leads
// nowhere, and at permissions of its second version, with this one message.
func (c *testCase) alone() bool {
	if c.table == nil {
		return true
	}
	last := ""
	if len(c.key) > 0 {
		last = c.key[len(c.key)-1]
	}
	return c.kind == "reject" && (last == "" || last == "permissions")
}

// apart reports whether two tables say nothing about the same value. Permissions
// are never shared: their order is part of what is asserted.
func apart(a, b *document.Table) bool {
	for e := range b.All() {
		other := a.Get(e.Key)
		switch {
		case other == nil || e.Key == "$schema":
		case other.Table() == nil || e.Value.Table() == nil || e.Key == "permission" || e.Key == "tools":
			return false
		case !apart(other.Table(), e.Value.Table()):
			return false
		}
	}
	return true
}

// hold runs a group, and what it does not show case by case.
func (p *programs) hold(t *testing.T, g *group) {
	said := p.theirs(t, g.cases, g.whole)
	if g.cases[0].kind == "accept" && said.code == 0 {
		if more := added(g.whole, said.config); more != "" {
			t.Errorf("opencode makes more of %v than is written:\n%s", g.cases, more)
		}
	}
	for _, c := range g.cases {
		problem := c.against(said)
		if problem != "" && len(g.cases) > 1 {
			t.Logf("%s is tried by itself, which takes time", c)
			problem = c.against(p.theirs(t, []*testCase{c}, c.table))
		}
		if problem != "" {
			t.Errorf("%s: %s\n%s", c, problem, c.text)
		}
	}
}

// against says what of a case does not hold in what opencode said; "" means that
// all does.
func (c *testCase) against(said answer) string {
	switch c.kind {
	case "accept", "warned":
		if said.code != 0 {
			return "opencode rejects it: " + said.stderr
		}
		if c.kind == "accept" {
			return missing(c.table, said.config)
		}
		if keys := keysOf(said.config.Lookup(c.ordered...)); c.ordered != nil && keys != c.order {
			return "opencode has the order " + keys
		}
	case "stricter":
		if said.code != 0 {
			return "opencode rejects it too: move it to reject: " + said.stderr
		}
		if c.gone != nil && said.config.Lookup(c.gone...) != nil {
			return "opencode keeps what it was said to drop"
		}
	case "reject":
		if said.code == 0 {
			return "opencode accepts it"
		}
		if name := strings.Join(c.key, "."); !ends(said.stderr, name) {
			return "opencode does not name " + name + ": " + said.stderr
		}
	}
	return ""
}

func keysOf(v *document.Value) string {
	var keys []string
	for e := range v.Table().All() {
		keys = append(keys, e.Key)
	}
	return strings.Join(keys, " ")
}

// ends reports whether a line of opencode's message ends in a key, or in one below
// it: "Expected boolean, got 5 snapshot". The end of a longer key is no name.
func ends(message, key string) bool {
	for line := range strings.Lines(message) {
		_, after, found := strings.Cut(strings.TrimRight(line, "\n")+".", " "+key+".")
		if key == "" || found && !strings.Contains(after, " ") {
			return true
		}
	}
	return false
}

// TestEnoughCases: the table is only worth its name while it is large, and no key
// of the schemas is missing from what both accept.
func TestEnoughCases(t *testing.T) {
	counts := map[string]int{}
	for _, c := range readCases(t) {
		counts[c.kind]++
	}
	t.Log(counts)
	if counts["accept"]+counts["reject"]+counts["stricter"] < 150 || counts["reject"] < 40 {
		t.Errorf("%v", counts)
	}
}

// write puts text into a new file below a directory.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
