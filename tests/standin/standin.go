// Package standin brings a small program that stands in for opencode: it takes
// the same arguments and answers the two requests that say whether a server is
// up, within milliseconds and a few megabytes. For tests of what opencoded does
// around a server, many times or with many servers; what opencode itself does,
// only opencode shows.
package standin

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
)

// Build compiles the stand-in and returns the bind that shows it at target.
func Build(t testing.TB, target string) machine.Bind {
	t.Helper()
	program := filepath.Join(t.TempDir(), "opencode")
	cmd := exec.Command("go", "build", "-o", program, "github.com/opencoded/opencoded/tests/standin/cmd/opencode")
	// Static, as the sandbox need not show it a loader.
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the stand-in: %v\n%s", err, out)
	}
	return machine.Bind{Source: program, Target: target}
}
