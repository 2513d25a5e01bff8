package operator

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
)

// Opencoded brings the program under test, as `make build` left it, to where an
// administrator installs it. It is called outside of the machine, by a test of a
// directory below tests/.
func Opencoded(t testing.TB) machine.Bind {
	t.Helper()
	return machine.Bind{Source: inRepository(t, "bin", "opencoded"), Target: "/usr/local/bin/opencoded"}
}

// Unit is the packaged unit of the daemon, where `make install` puts it.
func Unit(t testing.TB) machine.Bind {
	t.Helper()
	return machine.Bind{Source: inRepository(t, "packaging", "opencoded.service"), Target: "/usr/local/lib/systemd/system/opencoded.service"}
}

// Packages builds the packages of the program under test, of that version or, with "", of their own.
func Packages(t testing.TB, version string) (deb, rpm string) {
	t.Helper()
	target := t.TempDir()
	cmd := exec.Command(inRepository(t, "scripts", "package"), target)
	if version != "" {
		cmd.Env = append(cmd.Environ(), "VERSION="+version)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("scripts/package: %v\n%s", err, out)
	}
	only := func(pattern string) string {
		found, err := filepath.Glob(filepath.Join(target, pattern))
		if err != nil || len(found) != 1 {
			t.Fatalf("scripts/package made %q, %v", found, err)
		}
		return found[0]
	}
	return only("*.deb"), only("*.rpm")
}

func inRepository(t testing.TB, path ...string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(append([]string{root}, path...)...)
	if _, err := os.Stat(name); err != nil {
		t.Fatalf("%v (run `make build` first)", err)
	}
	return name
}
