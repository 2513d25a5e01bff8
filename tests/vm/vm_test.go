// Package vm shows what only a machine of its own can show: limits that the kernel's controllers enforce, a boot, a
// reboot, and a power cut. Each test is one virtual machine (package guest) with Debian's stock kernel; the parts of a
// test run in it one after the other, as parts of a scenario do.
package vm

import (
	"os"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/tier"
	"github.com/opencoded/opencoded/tests/vm/guest"
)

func TestMain(m *testing.M) {
	guest.Init()
	os.Exit(m.Run())
}

// inGuest runs a part of a test in the guest; inside of it, where there is none, it is a plain call.
func inGuest(t *testing.T, g *guest.Guest, name string, part func(t *testing.T)) bool {
	return t.Run(name, func(t *testing.T) {
		if machine.Inside() {
			part(t)
			return
		}
		g.RunTest(t)
	})
}

// TestLimits is one boot with the real opencode.
func TestLimits(t *testing.T) {
	var g *guest.Guest
	if !machine.Inside() {
		tier.Need(t, "vm", guest.Check())
		opencode, err := tier.Opencode()
		tier.Need(t, "vm", err)
		disk := guest.NewDisk(t, operator.Opencoded(t), operator.Unit(t), machine.Bind{Source: opencode, Target: "/usr/local/bin/opencode"})
		g = disk.Boot(t)
	}
	if inGuest(t, g, "started", started) {
		inGuest(t, g, "open-files", openFiles)
		inGuest(t, g, "tasks", tooManyTasks)
		inGuest(t, g, "processor", tooMuchTime)
		inGuest(t, g, "memory", tooMuchMemory)
	}
}
