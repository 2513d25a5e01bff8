// Package scenario runs opencoded with the real opencode, the real systemd and
// the kernel's nftables, each scenario in a throwaway machine of its own. What
// is claimed about isolation is asked from inside a running instance, through
// opencode's own shell endpoint.
//
// The test binary runs itself inside of the machine, so it also runs in any
// other machine that may be thrown away: with OPENCODED_MACHINE=1, opencoded and
// opencode in /usr/local/bin, and for some scenarios what else binds brings.
package scenario

import (
	"fmt"
	"os"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/standin"
	"github.com/opencoded/opencoded/tests/tier"
)

// scenarios by name; each has a file of its own.
var scenarios = []struct {
	name string
	run  func(t *testing.T)
}{
	{"lifecycle", lifecycle},
	{"isolation", isolation},
	{"nested-paths", nestedPaths},
	{"setup-idempotence", setupIdempotence},
	{"hook-ordering", hookOrdering},
	{"hook-failure", hookFailure},
	{"environment", environment},
	{"ordinary-work", ordinaryWork},
	{"network-policy", networkPolicy},
	{"network-inbound", networkInbound},
	{"network-guard", networkGuard},
	{"egress-ports", egressPorts},
	{"egress-kept", egressKept},
	{"host-service", hostService},
	{"host-service-upgrades", hostServiceUpgrades},
	{"traffic", everyKindOfTraffic},
	{"traffic-open-flows", openFlows},
	{"traffic-many", manyInstances},
	{"blocked", blockedPolicy},
	{"postgres-socket", postgresSocket},
	{"sockets-come-and-go", socketsComeAndGo},
	{"nothing-is-left", nothingIsLeft},
	{"configuration-holds", configurationHolds},
	{"config-lock", configLock},
	{"protected-files", protectedFiles},
	{"credentials", credentials},
	{"confined", confined},
	{"layered-configuration", layeredConfiguration},
	{"accounts", accounts},
	{"state-max-refused", stateMaxRefused},
	{"unit-directory", unitDirectory},
}

func TestMain(m *testing.M) {
	machine.Init()
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestScenarios(t *testing.T) {
	tier.Need(t, "scenario", tier.Machine())
	opts := machine.Options{Name: "scenario"}
	if !machine.Inside() {
		opts.Binds = binds(t)
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) { machine.Run(t, opts, s.run) })
	}
}

// binds bring the two programs under test to where an administrator installs
// them, and the one that stands in for opencode where there are many.
func binds(t *testing.T) []machine.Bind {
	opencode, err := tier.Opencode()
	tier.Need(t, "scenario", err)
	return []machine.Bind{
		operator.Opencoded(t),
		operator.Unit(t),
		{Source: opencode, Target: "/usr/local/bin/opencode"},
		standin.Build(t, standinProgram),
	}
}
