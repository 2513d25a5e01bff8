// Package escape tries to get out of an instance: every probe is run inside of one, through opencode's own shell
// endpoint, and has to end with exactly the error that its row names. The same rows make docs/isolation.md. A second
// pass runs the probes as root outside of any instance, where those that claim something for the sandbox have to end
// otherwise: a probe that is broken, or that the kernel refuses everybody, proves nothing.
package escape

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencoded/opencoded/tests/agent"
	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/tier"
)

// roleVariable makes the test binary play another part than that of a test, see roles.
const roleVariable = "OPENCODED_ESCAPE_ROLE"

var roles = map[string]func(args []string) error{
	"run":     runProbes,   // CATEGORY...: runs their probes, each in a process of its own
	"compare": runControls, // runs those that are compared, as root outside
	"probe":   playProbe,   // NAME: one probe, in this process
	"plant":   plant,       // leaves what others may not find, as the user that it runs as
	"serve":   serve,       // ADDRESS...: answers whoever connects
	"raw":     openRaw,     // part of the probe file-capabilities, after an exec
}

func TestMain(m *testing.M) {
	machine.Init()
	role, ok := roles[os.Getenv(roleVariable)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := role(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestEscape(t *testing.T) {
	tier.Need(t, "escape", tier.Machine())
	opts := machine.Options{Name: "escape"}
	if !machine.Inside() {
		opencode, err := tier.Opencode()
		tier.Need(t, "escape", err)
		opts.Binds = []machine.Bind{operator.Opencoded(t), {Source: opencode, Target: "/usr/local/bin/opencode"}}
	}
	machine.Run(t, opts, escape)
}

func escape(t *testing.T) {
	v := prepare(t)
	alpha, err := agent.Enter(t.Context(), operator.Status(t, "alpha").Address, v.passwords["alpha"])
	if err != nil {
		t.Fatal(err)
	}
	results := func(categories string) map[string]string {
		out, code, err := alpha.Run(t.Context(), v.environment()+" "+roleVariable+"=run "+os.Args[0]+" "+categories)
		if err != nil || code != 0 {
			t.Fatalf("the probes of %s did not run: exit %d, %v: %s", categories, code, err, out)
		}
		return parse(out)
	}
	inside := map[string]map[string]string{}
	for _, c := range categories {
		began := time.Now()
		inside[c.id] = results(c.id)
		t.Logf("%s: %d probes in %.1f s", c.id, len(c.probes), time.Since(began).Seconds())
	}
	outside := v.control(t)

	refused, compared := 0, 0
	for _, c := range categories {
		for _, p := range c.probes {
			if p.want != succeeded {
				refused++
				if o := outside[p.name]; o != "" && o != inside[c.id][p.name] {
					compared++
				}
			}
			t.Run(c.id+"/"+p.name, func(t *testing.T) { p.judge(t, inside[c.id][p.name], outside[p.name]) })
		}
	}
	t.Logf("of %d probes that are refused, %d end otherwise outside", refused, compared)
	if compared*4 < refused*3 {
		t.Error("too few of them: the sandbox gets the merit of what the kernel refuses anyway, or probes are broken")
	}
	v.unharmed(t)
}

// judge holds what came of a probe against its row; outside is "" where the probe was not tried there.
func (p probe) judge(t *testing.T, inside, outside string) {
	if missing, ok := strings.CutPrefix(inside, missingPrefix); ok {
		tier.Need(t, "escape", errors.New(p.name+": "+missing))
	}
	if inside != p.want && inside == outside && p.control == depends {
		tier.Need(t, "escape", fmt.Errorf("%s: %s for everybody here", p.name, inside))
	}
	if inside != p.want {
		t.Errorf("%s: %s, want %s (as root outside: %s)", p.tries, inside, p.want, outside)
	}
	if outside == "" {
		return
	}
	same := outside == inside
	switch {
	case same && p.control == differs:
		t.Errorf("%s: %s outside of the sandbox too: not the sandbox's merit, or a broken probe", p.tries, inside)
	case !same && p.control == everybody:
		t.Errorf("%s: %s outside of the sandbox: the kernel does not refuse everybody", p.tries, outside)
	}
}

// parse reads what runProbes has printed.
func parse(out string) map[string]string {
	results := map[string]string{}
	for line := range strings.Lines(out) {
		if name, outcome, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			results[name] = outcome
		}
	}
	return results
}
