// Package judge asks the programs that have the last word about what opencoded
// writes: systemd-analyze about units, nft about rules. Neither changes anything.
package judge

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencoded/opencoded/tests/tier"
)

// analyze needs no root and no running systemd.
func analyze(t testing.TB, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		err = errors.New("no command systemd-analyze (apt-get install systemd)")
	}
	tier.Need(t, "verify", err)
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// SystemdVersion is the number before the first dot of what is installed here.
func SystemdVersion(t testing.TB) int {
	t.Helper()
	fields := strings.Fields(analyze(t, "--version"))
	if len(fields) < 2 {
		t.Fatal("systemd-analyze --version says nothing")
	}
	version, err := strconv.Atoi(strings.SplitN(fields[1], ".", 2)[0])
	if err != nil {
		t.Fatalf("systemd-analyze --version: %v", err)
	}
	return version
}

// Verify has systemd read unit files, given by name, and takes every word it says
// for a failure: what systemd does not understand it warns about and leaves out.
func Verify(t testing.TB, units map[string]string) {
	t.Helper()
	if out := analyze(t, append([]string{"verify", "--man=no"}, write(t, units)...)...); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
}

// Exposure is systemd's rating of a unit, from 0 (nothing is exposed) to 10.
func Exposure(t testing.TB, name, text string) float64 {
	t.Helper()
	path := write(t, map[string]string{name: text})[0]
	text = analyze(t, "security", "--offline=true", "--no-pager", path)
	_, after, ok := strings.Cut(text, "Overall exposure level for "+name+": ")
	if !ok {
		t.Fatalf("systemd-analyze security gives no rating:\n%s", text)
	}
	rating, err := strconv.ParseFloat(strings.Fields(after)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return rating
}

func write(t testing.TB, units map[string]string) []string {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for name, text := range units {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// Rules has nft check rules against this kernel, in a network namespace of its
// own where no table of the host plays a part.
func Rules(t testing.TB, text string) {
	t.Helper()
	tier.Need(t, "nft", tier.Nftables())
	cmd := exec.Command("nft", "-c", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("nft -c: %v\n%s\n%s", err, out, numbered(text))
	}
}

func numbered(text string) string {
	var b strings.Builder
	n := 0
	for l := range strings.Lines(text) {
		n++
		fmt.Fprintf(&b, "%4d %s", n, l)
	}
	return b.String()
}
