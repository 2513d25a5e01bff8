// Package bench measures what an operator waits for, with a hundred instances of
// a stand-in server in a throwaway machine. Every figure is set against another
// one of the same run on the same machine, and nothing is asserted about time:
// docs/benchmarks.md says how to run it and what came out.
package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/standin"
	"github.com/opencoded/opencoded/tests/tier"
)

// stopwatchVariable makes the test binary, brought into a machine, time the
// command that its arguments are.
const stopwatchVariable = "OPENCODED_BENCH_STOPWATCH"

func TestMain(m *testing.M) {
	machine.Init()
	if os.Getenv(stopwatchVariable) != "" {
		os.Exit(stopwatch(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// measured is how long a command took, and how long it kept processors busy with
// its children. What it asks of systemd and the kernel's other threads is not in
// the second.
type measured struct {
	Wall, CPU time.Duration
	Code      int
	Output    string
}

// stopwatch times a command from within the machine, so that entering it does not
// count.
func stopwatch(args []string) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	began := time.Now()
	out, err := cmd.Output()
	wall := time.Since(began)
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	m := measured{wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), cmd.ProcessState.ExitCode(), string(out)}
	if err := json.NewEncoder(os.Stdout).Encode(m); err != nil {
		return 1
	}
	return 0
}

// host is a machine with what is measured in it.
type host struct {
	b *testing.B
	m *machine.Machine
}

const watch = "/usr/local/lib/opencoded-bench"

// boot starts a machine that holds nothing but the programs and an inventory.
func boot(b *testing.B, binds []machine.Bind, inventory string) host {
	b.Helper()
	m, err := machine.Boot(b.Context(), machine.Options{Name: "bench", Binds: binds, Log: b.Output()})
	if err != nil {
		b.Fatal(err)
	}
	h := host{b, m}
	if err := m.WriteFile(operator.Inventory, []byte(inventory), 0o644); err != nil {
		b.Fatal(err)
	}
	return h
}

func (h host) close() {
	if err := h.m.Close(); err != nil {
		h.b.Error(err)
	}
}

// time runs a command that has to succeed.
func (h host) time(args ...string) measured {
	h.b.Helper()
	cmd := h.m.Command(h.b.Context(), watch, args...)
	cmd.Env = append(cmd.Env, stopwatchVariable+"=1")
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var m measured
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	if err != nil || m.Code != 0 {
		h.b.Fatalf("%s: %v, exit code %d\n%s\n%s", strings.Join(args, " "), err, m.Code, stderr.String(), h.m.Diagnose())
	}
	return m
}

// binds bring the programs in, or skip the benchmark where no machine boots.
func binds(b *testing.B) []machine.Bind {
	b.Helper()
	tier.Need(b, "bench", tier.Machine())
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	return []machine.Bind{
		operator.Opencoded(b),
		standin.Build(b, "/usr/local/bin/opencode"),
		{Source: self, Target: watch},
	}
}

// instances is how many servers there are.
const instances = 100

// inventory lists them, each with a project of its own; isolated ones may reach
// four networks.
func inventory(isolated bool) string {
	var s strings.Builder
	s.WriteString("version = 1\n")
	if isolated {
		s.WriteString("[defaults.network_isolation]\nenable = true\n" +
			"outbound_allow_cidrs = [\"192.0.2.0/24\", \"198.51.100.0/24\", \"203.0.113.0/24\", \"2001:db8::/32\"]\n")
	}
	for n := range instances {
		fmt.Fprintf(&s, "[instances.n%03d]\ndirectory = \"/srv/n%03d\"\nlisten.port = %d\n", n, n, 9000+n)
	}
	return s.String()
}

func services() []string {
	var list []string
	for n := range instances {
		list = append(list, fmt.Sprintf("opencode-n%03d.service", n))
	}
	return list
}
