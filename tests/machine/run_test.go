package machine_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/tier"
)

// The pattern for scenarios, and the test of it.
var scenarios = map[string]func(*testing.T){
	"is in a machine": func(t *testing.T) {
		if !machine.Inside() {
			t.Error("not inside")
		}
		if comm, err := os.ReadFile("/proc/1/comm"); err != nil || string(comm) != "systemd\n" {
			t.Errorf("process 1 is %q, %v", comm, err)
		}
		if text, err := os.ReadFile("/srv/brought"); err != nil || len(text) == 0 {
			t.Errorf("the bound file: %q, %v", text, err)
		}
	},
	// Here the host is one with systemd as its first process and a pure cgroup v2, whatever the real one is.
	"boots another": func(t *testing.T) {
		before := hostState(t)
		m := boot(t, machine.Options{Name: "inner"})
		output(t, m, "systemd-run", "--wait", "--quiet", "--slice=inner.slice", "true")
		if diff := difference(before, hostState(t)); len(diff) > 0 {
			t.Errorf("the host differs:\n%s", strings.Join(diff, "\n"))
		}
	},
	"has one of its own": func(t *testing.T) {
		if err := os.Mkdir("/srv/mine", 0o755); err != nil {
			t.Error(err)
		}
	},
}

func TestScenarios(t *testing.T) {
	tier.Need(t, "machine", tier.Machine())
	opts := machine.Options{Name: "scenario", Binds: []machine.Bind{{Source: "/etc/os-release", Target: "/srv/brought"}}}
	for name, scenario := range scenarios {
		t.Run(name, func(t *testing.T) { machine.Run(t, opts, scenario) })
	}
}

// verdicts are scenarios that end in every way; they run in a process of their own, in TestVerdicts.
var verdicts = map[string]func(*testing.T){
	"pass":  func(t *testing.T) {},
	"fail":  func(t *testing.T) { t.Error("with a reason") },
	"panic": func(t *testing.T) { panic("with a reason") },
	"exit":  func(t *testing.T) { os.Exit(0) },
	"skip":  func(t *testing.T) { tier.Need(t, "example", os.ErrNotExist) },
}

func TestVerdictsInner(t *testing.T) {
	if os.Getenv("MACHINE_TEST_VERDICTS") == "" && !machine.Inside() {
		return // only in TestVerdicts
	}
	for name, scenario := range verdicts {
		t.Run(name, func(t *testing.T) { machine.Run(t, machine.Options{Name: "verdicts"}, scenario) })
	}
}

// What happens to a test inside happens to it outside.
func TestVerdicts(t *testing.T) {
	tier.Need(t, "machine", tier.Machine())
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	report := t.TempDir() + "/report"
	cmd := exec.Command(self, "-test.v", "-test.run=^TestVerdictsInner$")
	cmd.Env = append(os.Environ(), "MACHINE_TEST_VERDICTS=1", "REQUIRE=", "TIER_REPORT="+report)
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Error("failures inside did not fail the outer process")
	}
	for _, want := range []string{
		"    --- PASS: TestVerdictsInner/pass ",
		"    --- FAIL: TestVerdictsInner/fail ",
		"    --- FAIL: TestVerdictsInner/panic ",
		"    --- FAIL: TestVerdictsInner/exit ",
		"    --- SKIP: TestVerdictsInner/skip ",
	} {
		if !strings.Contains(string(out), "\n"+want) {
			t.Errorf("no line that starts with %q in the output", want)
		}
	}
	if !strings.Contains(string(out), ": with a reason\n") {
		t.Error("what the test inside said is not in the output")
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
	if text, err := os.ReadFile(report); err != nil || string(text) != "example: file does not exist\n" {
		t.Errorf("the report of tiers that could not run: %q, %v", text, err)
	}
}
