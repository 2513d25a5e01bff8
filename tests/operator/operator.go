// Package operator does what an operator does: write files, run commands, read
// what they print. Its functions are for tests that run inside of a throwaway
// machine, where they may do anything as root.
package operator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencoded/opencoded/tests/machine"
)

// Inventory is where commands look for it when none is named.
const Inventory = "/etc/opencode/instances.toml"

// Result is what a command printed and how it ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

func (r Result) String() string {
	return fmt.Sprintf("exit %d\nstdout:\n%s\nstderr:\n%s", r.Code, r.Stdout, r.Stderr)
}

// Command runs a program to its end.
func Command(t testing.TB, name string, args ...string) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := exec.CommandContext(t.Context(), name, args...)
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("cannot run %s: %v", name, err)
	}
	return Result{stdout.String(), stderr.String(), c.ProcessState.ExitCode()}
}

// Must runs a program that has to succeed and returns what it printed.
func Must(t testing.TB, name string, args ...string) string {
	t.Helper()
	r := Command(t, name, args...)
	if r.Code != 0 {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), r)
	}
	return strings.TrimSpace(r.Stdout)
}

// Sh runs a shell script that has to succeed, as root on the host.
func Sh(t testing.TB, script string) string {
	t.Helper()
	return Must(t, "/bin/bash", "-euc", script)
}

// Write writes a file with this mode, and the directories that lead to it. Where a
// machine needs other settings of the host than the default ones (NixOS does), it
// says them to each inventory.
func Write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if settings := os.Getenv(machine.HostVariable); settings != "" && path == Inventory {
		text += "\n[host]\n" + settings + "\n"
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// Read returns the content of a file.
func Read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Apply writes the inventory and applies it; it has to succeed.
func Apply(t testing.TB, inventory string) Result {
	t.Helper()
	Write(t, Inventory, inventory, 0o644)
	r := Command(t, "opencoded", "apply")
	if r.Code != 0 {
		t.Fatalf("opencoded apply: %v", r)
	}
	return r
}

// NothingToDo asserts that the host is converged and that applying again leaves
// every process alone.
func NothingToDo(t testing.TB) {
	t.Helper()
	r := Command(t, "opencoded", "apply")
	if r.Code != 0 || !strings.HasPrefix(r.Stdout, "Nothing to do") {
		t.Errorf("a second apply finds something to do: %v\n%s", r, Command(t, "opencoded", "plan").Stdout)
	}
}

// Row is one row of `opencoded status --json`.
type Row struct {
	Detail   string `json:"detail"`
	Instance string
	State    string
	PID      int
	Address  string
	Egress   string
	Blocked  int `json:"blocked_packets"`
	Reported int `json:"reported_packets"`
	Drift    []string
	Version  string `json:"opencode_version"`
}

// Status is what `opencoded status` says of an instance.
func Status(t testing.TB, name string) Row {
	t.Helper()
	var out struct{ Instances []Row }
	if err := json.Unmarshal([]byte(Must(t, "opencoded", "status", "--json")), &out); err != nil {
		t.Fatal(err)
	}
	for _, s := range out.Instances {
		if s.Instance == name {
			return s
		}
	}
	t.Fatalf("status does not name %s", name)
	return Row{}
}

// PID is the main process of an instance, which has to run.
func PID(t testing.TB, name string) string {
	t.Helper()
	p := Must(t, "systemctl", "show", "-P", "MainPID", "opencode-"+name)
	if p == "0" {
		t.Fatalf("%s does not run:\n%s", name, Must(t, "journalctl", "-n", "30", "--no-pager", "-u", "opencode-"+name+"*"))
	}
	return p
}

// limit is generous: on a machine with much else to do, opencode takes half a minute to start.
const limit = 90 * time.Second

// Eventually waits for a condition, up to a generous limit.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Contains asserts that a text has a part.
func Contains(t testing.TB, what, text, want string) {
	t.Helper()
	if !strings.Contains(text, want) {
		t.Errorf("%s does not say %q:\n%s", what, want, text)
	}
}

// Lacks asserts that a text does not have a part.
func Lacks(t testing.TB, what, text, unwanted string) {
	t.Helper()
	if strings.Contains(text, unwanted) {
		t.Errorf("%s says %q:\n%s", what, unwanted, text)
	}
}

// Same asserts that two values are equal.
func Same[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}
