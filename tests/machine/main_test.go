package machine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/tier"
)

func TestMain(m *testing.M) {
	machine.Init()
	if how := os.Getenv("MACHINE_TEST_VICTIM"); how != "" {
		victim(how)
	}
	os.Exit(m.Run())
}

// boot boots a machine that is closed with the test.
func boot(t *testing.T, opts machine.Options) *machine.Machine {
	t.Helper()
	tier.Need(t, "machine", tier.Machine())
	if opts.Log == nil {
		opts.Log = t.Output()
	}
	m, err := machine.Boot(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// output runs a program in the machine that must succeed.
func output(t *testing.T, m *machine.Machine, name string, args ...string) string {
	t.Helper()
	out, err := m.Output(t.Context(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !condition() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// namespaceOf identifies the PID namespace of a process.
func namespaceOf(t *testing.T, pid int) string {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// processesIn lists the processes of a PID namespace as the host sees them.
func processesIn(namespace string) []int {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	var pids []int
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == namespace {
			pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// unique is a machine name that no other run of these tests, at the same time, uses.
func unique(name string) string { return fmt.Sprintf("%s-%d", name, os.Getpid()) }

// cgroupsOf lists what is left, anywhere on the host, of the cgroups of machines of that name.
func cgroupsOf(name string) []string {
	var dirs []string
	for _, pattern := range []string{"/sys/fs/cgroup/opencoded-machine-", "/sys/fs/cgroup/*/opencoded-machine-"} {
		found, _ := filepath.Glob(pattern + name + "-*")
		dirs = append(dirs, found...)
	}
	return dirs
}
