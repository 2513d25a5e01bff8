// Package tier decides what happens to a test whose surroundings are missing: by default it is skipped and its tier
// is named in the last lines of "make test"; with REQUIRE=all in the environment, as in CI, it fails. No test is
// skipped silently.
//
// The probes say what is missing and how to get it; they neither install nor change anything.
package tier

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/opencode"
)

// Need ends the test unless err is nil: err is why the tier of that name cannot run here.
func Need(t testing.TB, name string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	reason := strings.Join(strings.Fields(err.Error()), " ")
	if os.Getenv("REQUIRE") == "all" {
		t.Fatalf("tier %s cannot run here, and REQUIRE=all asks for it: %s", name, reason)
	}
	if err := note(name + ": " + reason + "\n"); err != nil {
		t.Fatalf("cannot note that tier %s did not run: %v", name, err)
	}
	t.Skipf("tier %s cannot run here: %s", name, reason)
}

// note appends a line to the file that $TIER_REPORT names. One write of one line, since test binaries run at the
// same time.
func note(line string) error {
	path := os.Getenv("TIER_REPORT")
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

// Root says whether the test may do what only root may.
func Root() error {
	if os.Geteuid() != 0 {
		return errors.New("not root (run the tests as root, for example with sudo)")
	}
	return nil
}

// Nftables says whether the nft program and this kernel load rules, tried in a network namespace of its own.
func Nftables() error {
	if err := Root(); err != nil {
		return err
	}
	nft, err := exec.LookPath("nft")
	if err != nil {
		return errors.New("no command nft (apt-get install nftables)")
	}
	cmd := exec.Command(nft, "add table inet opencoded-probe")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot make an nftables table in a new network namespace: %w: %s (needs CAP_NET_ADMIN, "+
			"CAP_SYS_ADMIN and the kernel module nf_tables)", err, bytes.TrimSpace(out))
	}
	return nil
}

// Machine says whether a throwaway machine can be booted here. Inside of one nothing is missing.
func Machine() error {
	if machine.Inside() {
		return nil
	}
	return machine.Check()
}

// Opencode says whether the real opencode binary is here, and where.
func Opencode() (string, error) { return opencode.Binary() }

// GuestRoot is the directory that holds a Debian of that suite, with these packages besides what every test needs
// (scripts/guest-root). It is made if it is missing, which takes some minutes. For tests of a directory below tests/.
func GuestRoot(suite string, packages ...string) (string, error) {
	script := exec.Command("../../scripts/guest-root", append([]string{suite}, packages...)...)
	var stderr bytes.Buffer
	script.Stderr = &stderr
	out, err := script.Output()
	if err != nil {
		return "", errors.New(cmp.Or(strings.TrimSpace(stderr.String()), err.Error()))
	}
	return strings.TrimSpace(string(out)), nil
}

// Postgres returns the directory of PostgreSQL's server programs (initdb, postgres, pg_ctl), of the newest version.
func Postgres() (string, error) {
	servers, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	newest, dir := -1, ""
	for _, server := range servers {
		bin := filepath.Dir(server)
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
		if err == nil && version > newest {
			newest, dir = version, bin
		}
	}
	if dir == "" {
		return "", errors.New("no PostgreSQL server in /usr/lib/postgresql (run scripts/prepare, or apt-get install postgresql)")
	}
	return dir, nil
}
