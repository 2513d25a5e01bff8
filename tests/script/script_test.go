// Package script holds the real program to its words: what it prints, where, and
// how it exits. Each script in testdata/anyone runs anywhere, as any user; those
// in testdata/root need root, and still change nothing of the host. What takes a
// running systemd is package scenario's.
package script

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/opencoded/opencoded/tests/tier"
)

// program is the directory of the built program.
var program string

// TestMain also makes this binary the commands of helpers.go, which testscript
// starts by name.
func TestMain(m *testing.M) {
	testscript.Main(builder{m}, map[string]func(){"unprivileged": unprivileged, "trusted": trusted, "unbooted": unbooted})
}

// builder builds the program around the run of the tests. testscript.Main ends
// the process itself, so nothing can come behind it.
type builder struct{ m *testing.M }

func (b builder) Run() int {
	dir, err := os.MkdirTemp("", "opencoded-script")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755) // for those who are not root
	}
	if err == nil {
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	program = dir
	return b.m.Run()
}

func build(dir string) error {
	cmd := exec.Command("go", "build", "-ldflags", "-X main.version=v1.2.3 -X main.commit=c0ffee -X main.date=2001-02-03T04:05:06Z",
		"-o", filepath.Join(dir, "opencoded"), "./cmd/opencoded")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build opencoded: %w\n%s", err, out)
	}
	return nil
}

func TestAnyone(t *testing.T) { run(t, "testdata/anyone") }

func TestRoot(t *testing.T) {
	tier.Need(t, "script", tier.Root())
	run(t, "testdata/root")
}

func run(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir:                dir,
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", program+string(os.PathListSeparator)+e.Getenv("PATH"))
			// Whoever the script becomes must reach its files.
			return errors.Join(os.Chmod(filepath.Dir(e.WorkDir), 0o755), os.Chmod(e.WorkDir, 0o755))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "json": checkJSON},
	})
}

// exits runs a command that must end with a certain exit code:
//
//	exits CODE COMMAND [ARGUMENT...]
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARGUMENT...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var ended *exec.ExitError
	switch err := ts.Exec(args[1], args[2:]...); {
	case errors.As(err, &ended):
		got = ended.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
