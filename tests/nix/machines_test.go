package nix

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// machines are the names of the tests in virtual machines.
func machines(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(place.root, "nixos/tests/*.nix"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in nixos/tests: %v", err)
	}
	var out []string
	for _, f := range files {
		out = append(out, strings.TrimSuffix(filepath.Base(f), ".nix"))
	}
	return out
}

// TestMachines: each test in a virtual machine is a check, its nodes evaluate with
// their assertions true, its script is Python, and the scenarios that it runs exist.
// None is booted here.
func TestMachines(t *testing.T) {
	need(t)
	scripts := evaluate[map[string]string](t, "tests")
	scenarios := read(t, filepath.Join(place.root, "tests/scenario/scenario_test.go"))
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal("no command python3 (run scripts/prepare, or apt-get install python3)")
	}
	for _, name := range machines(t) {
		script, ok := scripts[name]
		if !ok {
			t.Errorf("%s is no check", name)
			continue
		}
		file := filepath.Join(t.TempDir(), name+".py")
		if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(python, "-c", "import sys; compile(open(sys.argv[1]).read(), sys.argv[1], 'exec')", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %s\n%s", name, out, script)
		}
		for _, m := range regexp.MustCompile(`\^TestScenarios\$/\^([a-z-]+)\$`).FindAllStringSubmatch(script, -1) {
			if !strings.Contains(scenarios, `{"`+m[1]+`", `) {
				t.Errorf("%s runs a scenario %s, which there is not", name, m[1])
			}
		}
	}
	// Those that the predecessor's users know.
	for _, name := range []string{"multi-instance", "sandbox-isolation", "setup-idempotence", "env-and-config", "network-policy",
		"postgres-socket", "open-firewall", "hook-ordering", "hook-failure", "simple-coding-assistant"} {
		if !slices.Contains(machines(t), name) {
			t.Errorf("there is no test %s", name)
		}
	}
}
