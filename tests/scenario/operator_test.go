package scenario

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
)

// What an operator does: write files, run commands, read what they print.

const inventoryPath = "/etc/opencode/instances.toml"

// result is what a command printed and how it ended.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit %d\nstdout:\n%s\nstderr:\n%s", r.code, r.stdout, r.stderr)
}

// command runs a program to its end.
func command(t *testing.T, name string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := exec.CommandContext(t.Context(), name, args...)
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("cannot run %s: %v", name, err)
	}
	return result{stdout.String(), stderr.String(), c.ProcessState.ExitCode()}
}

// must runs a program that has to succeed and returns what it printed.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	r := command(t, name, args...)
	if r.code != 0 {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), r)
	}
	return strings.TrimSpace(r.stdout)
}

// sh runs a shell script that has to succeed, as root on the host.
func sh(t *testing.T, script string) string {
	t.Helper()
	return must(t, "/bin/bash", "-euc", script)
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
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

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// apply writes the inventory and applies it; it has to succeed.
func apply(t *testing.T, inventory string) result {
	t.Helper()
	write(t, inventoryPath, inventory, 0o644)
	r := command(t, "opencoded", "apply")
	if r.code != 0 {
		t.Fatalf("opencoded apply: %v", r)
	}
	return r
}

// nothingToDo asserts that the host is converged and that applying again leaves
// every process alone.
func nothingToDo(t *testing.T) {
	t.Helper()
	r := command(t, "opencoded", "apply")
	if r.code != 0 || !strings.HasPrefix(r.stdout, "Nothing to do") {
		t.Errorf("a second apply finds something to do: %v\n%s", r, command(t, "opencoded", "plan").stdout)
	}
}

// statusOf is one row of `opencoded status --json`.
type statusOf struct {
	Instance string
	State    string
	PID      int
	Address  string
	Egress   string
	Blocked  int `json:"blocked_packets"`
	Drift    []string
	Version  string `json:"opencode_version"`
}

func status(t *testing.T, name string) statusOf {
	t.Helper()
	var out struct{ Instances []statusOf }
	if err := json.Unmarshal([]byte(must(t, "opencoded", "status", "--json")), &out); err != nil {
		t.Fatal(err)
	}
	for _, s := range out.Instances {
		if s.Instance == name {
			return s
		}
	}
	t.Fatalf("status does not name %s", name)
	return statusOf{}
}

func pid(t *testing.T, name string) string {
	t.Helper()
	p := must(t, "systemctl", "show", "-P", "MainPID", "opencode-"+name)
	if p == "0" {
		t.Fatalf("%s does not run:\n%s", name, must(t, "journalctl", "-n", "30", "--no-pager", "-u", "opencode-"+name+"*"))
	}
	return p
}

// eventually waits for a condition, up to a generous limit.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func contains(t *testing.T, what, text, want string) {
	t.Helper()
	if !strings.Contains(text, want) {
		t.Errorf("%s does not say %q:\n%s", what, want, text)
	}
}

func lacks(t *testing.T, what, text, unwanted string) {
	t.Helper()
	if strings.Contains(text, unwanted) {
		t.Errorf("%s says %q:\n%s", what, unwanted, text)
	}
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}
