package operator

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
)

// Opencoded brings the program under test, as `make build` left it, to where an
// administrator installs it. It is called outside of the machine, by a test of a
// directory below tests/.
func Opencoded(t testing.TB) machine.Bind {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(root, "bin", "opencoded")
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v (run `make build` first)", err)
	}
	return machine.Bind{Source: program, Target: "/usr/local/bin/opencoded"}
}
