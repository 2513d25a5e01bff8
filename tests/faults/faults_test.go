// Package faults shows what happens when something is wrong: broken input, a
// host that lacks something, a server that does not come up, and a kill at any
// moment. Each part runs in a throwaway machine of its own, with the real
// systemd and nftables; the server is a stand-in, but where the real opencode's
// own behaviour matters.
package faults

import (
	"os"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/standin"
	"github.com/opencoded/opencoded/tests/tier"
)

// faults by name; each has a file of its own.
var faults = []struct {
	name string
	run  func(t *testing.T)
}{
	{"bad-input", badInput},
	{"missing-parts", missingParts},
	{"second-apply", secondApply},
	{"failing-lanes", failingLanes},
	{"killed-apply", killedApply},
	{"killed-purge", killedPurge},
}

func TestMain(m *testing.M) {
	machine.Init()
	os.Exit(m.Run())
}

func TestFaults(t *testing.T) {
	tier.Need(t, "faults", tier.Machine())
	opts := machine.Options{Name: "faults"}
	if !machine.Inside() {
		opencode, err := tier.Opencode()
		tier.Need(t, "faults", err)
		opts.Binds = []machine.Bind{
			operator.Opencoded(t),
			standin.Build(t, "/usr/local/bin/opencode"),
			{Source: opencode, Target: realOpencode},
		}
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) { machine.Run(t, opts, f.run) })
	}
}

// realOpencode is where a test finds opencode itself.
const realOpencode = "/usr/local/libexec/opencode"

// twoInstances stand in for what runs already when something goes wrong.
const twoInstances = `
version = 1
[instances.alpha]
directory = "/srv/alpha"
listen.port = 8701
[instances.alpha.network_isolation]
enable = true
outbound_allow_cidrs = ["192.0.2.0/24"]
[instances.beta]
directory = "/srv/beta"
listen.port = 8702
`
