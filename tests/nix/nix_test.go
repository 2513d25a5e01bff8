// Package nix evaluates what nixos/ holds with the real Nix, builds what it gives,
// and runs it: with nixpkgs' own lib where OPENCODED_NIXPKGS names a nixpkgs, and
// otherwise with one that stands in for it (standin/). What is built is built by
// the programs of this host, into a store that is thrown away. Nothing is booted
// here: the virtual machines of nixos/tests are evaluated alone.
package nix

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

	"github.com/opencoded/opencoded/tests/tier"
)

// place is where a run of these tests builds.
var place struct {
	dir, root           string // of the store, of the repository
	opencoded, opencode string
	missing             error // why the tier cannot run
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	var err error
	if place.root, err = filepath.Abs("../.."); err != nil {
		return 1, err
	}
	// Below a directory of its own name, so that a store path has no link in it.
	dir, err := os.MkdirTemp("", "opencoded-nix-")
	if err == nil {
		place.dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return 1, err
	}
	defer func() { _ = exec.Command("sh", "-c", `chmod -R u+w "$0"; rm -rf "$0"`, place.dir).Run() }() // what is left lies in /tmp
	if _, err := exec.LookPath("nix-instantiate"); err != nil {
		place.missing = errors.New("no command nix-instantiate (run scripts/prepare, or apt-get install nix-bin)")
		return m.Run(), nil
	}
	if place.opencode, err = tier.Opencode(); err != nil {
		place.missing = err
		return m.Run(), nil
	}
	place.opencoded = filepath.Join(place.dir, "opencoded")
	build := exec.Command("go", "build", "-o", place.opencoded, "./cmd/opencoded")
	build.Dir = place.root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("cannot build opencoded: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// nix prepares one of Nix's programs, with a store of its own and no daemon.
func nix(program string, args ...string) *exec.Cmd {
	options := []string{
		"--option", "sandbox", "false", "--option", "substitute", "false", "--option", "build-users-group", "",
		// Nobody keeps this store, so nothing of it has to reach the disk.
		"--option", "fsync-metadata", "false",
	}
	c := exec.Command(program, append(options, args...)...)
	c.Env = append(os.Environ(), "NIX_STORE_DIR="+place.dir+"/store", "NIX_STATE_DIR="+place.dir+"/var",
		"NIX_LOG_DIR="+place.dir+"/log", "NIX_CONF_DIR="+place.dir+"/conf", "NIX_REMOTE=", "NIX_PATH=", "XDG_CACHE_HOME="+place.dir+"/cache")
	return c
}

// suite is an expression with everything of suite.nix in scope.
func suite(expression string) string {
	return fmt.Sprintf("with import %q { nixpkgs = %q; opencoded = %q; opencode = %q; unit = %q; }; %s",
		place.root+"/tests/nix/suite.nix", os.Getenv("OPENCODED_NIXPKGS"), place.opencoded, place.opencode,
		place.root+"/packaging/opencoded.service", expression)
}

// need ends the test where the tier cannot run.
func need(t *testing.T) {
	t.Helper()
	tier.Need(t, "nix", place.missing)
}

// try evaluates an expression, all of it.
func try(expression string) ([]byte, error) {
	c := nix("nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", "--expr", suite(expression))
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, stderr.String())
	}
	return out, err
}

// evaluate reads the value of an expression.
func evaluate[T any](t *testing.T, expression string) (out T) {
	t.Helper()
	need(t)
	text, err := try(expression)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return out
}

// tryBuild builds what an expression says and returns its path in the store.
func tryBuild(expression string) (string, error) {
	c := nix("nix-build", "--no-out-link", "--expr", suite(expression))
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, stderr.String())
	}
	return strings.TrimSpace(string(out)), err
}

func build(t *testing.T, expression string) string {
	t.Helper()
	need(t)
	path, err := tryBuild(expression)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// contains asserts that a text has all of some parts.
func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("does not say %q:\n%s", p, text)
		}
	}
}
