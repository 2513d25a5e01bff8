package opencode_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/opencode"
	"github.com/opencoded/opencoded/tests/tier"
)

// The binary is the pinned one, and this machine's processor can run it.
func TestBinaryRuns(t *testing.T) {
	path, err := opencode.Binary()
	tier.Need(t, "opencode", err)
	cmd := exec.Command(path, "--version")
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := os.ReadFile("package.json")
	if err != nil {
		t.Fatal(err)
	}
	if version := strings.TrimSpace(string(out)); !strings.Contains(string(pinned), `"opencode-linux-x64": "`+version+`"`) {
		t.Errorf("%s is version %s, not the one in package.json", path, version)
	}
}
