// Package vm shows what only a machine of its own can show: limits that the kernel's controllers enforce, a boot, a
// reboot, and a power cut. Each test is one virtual machine (package guest) with Debian's stock kernel; the parts of a
// test run in it one after the other, as parts of a scenario do.
package vm

import (
	"os"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/standin"
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

// standinInside is the small server that stands in for opencode (package standin).
const standinInside = "/usr/local/lib/opencode-standin"

// boot makes a disk with the programs under test and boots it; inside of the guest, it does nothing.
func boot(t *testing.T, files ...machine.Bind) (*guest.Disk, *guest.Guest) {
	t.Helper()
	if machine.Inside() {
		return nil, nil
	}
	tier.Need(t, "vm", guest.Check())
	disk := guest.NewDisk(t, append(files, operator.Opencoded(t), operator.Unit(t), standin.Build(t, standinInside))...)
	return disk, disk.Boot(t)
}

// TestLimits is one boot with the real opencode.
func TestLimits(t *testing.T) {
	var files []machine.Bind
	if !machine.Inside() {
		opencode, err := tier.Opencode()
		tier.Need(t, "vm", err)
		files = []machine.Bind{{Source: opencode, Target: "/usr/local/bin/opencode"}}
	}
	_, g := boot(t, files...)
	if inGuest(t, g, "started", started) {
		inGuest(t, g, "open-files", openFiles)
		inGuest(t, g, "tasks", tooManyTasks)
		inGuest(t, g, "processor", tooMuchTime)
		inGuest(t, g, "memory", tooMuchMemory)
	}
}
