// Package confine is the last step before an instance's program: it gives up what
// no directive of systemd can take away, and becomes the program.
package confine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// ScopingABI is the version of Landlock's interface from which on abstract Unix
// sockets and signals can be scoped (Linux 6.12).
const ScopingABI = 6

// ABI is the version of the kernel's Landlock interface, 0 where it has none.
func ABI() int {
	version, err := ll.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	return version
}

// Exec becomes the program of argv, which is looked for in PATH unless it has a
// slash. Where the kernel can, the program and its children neither connect to an
// abstract Unix socket that is not theirs, since such sockets have no path that a
// mount could hide, nor signal a process that is not. A kernel without that is no
// error: doctor reports it. Exec returns only if it fails.
func Exec(argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", argv[0], err)
	}
	// Best effort would take a refusal for a kernel that has none.
	if _, err := ll.LandlockGetABIVersion(); errors.Is(err, unix.EPERM) {
		return fmt.Errorf("cannot confine %s: a system call filter refuses Landlock (allow landlock_create_ruleset, landlock_add_rule and landlock_restrict_self)", argv[0])
	}
	if err := landlock.V6.BestEffort().RestrictScoped(); err != nil {
		return fmt.Errorf("cannot confine %s: %w", argv[0], err)
	}
	if err := unix.Exec(path, argv, os.Environ()); err != nil {
		return fmt.Errorf("cannot run %s: %w", strings.Join(argv, " "), err)
	}
	return nil
}
