package faults

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// gated starts alpha only once a file exists, so that an apply lasts as long as
// the test wants.
const gated = twoInstances + `
[instances.alpha.hooks]
pre_init = "until [ -e /srv/alpha/go ]; do sleep 0.05; done"
`

// secondApply: while one apply works another waits, says for whom, and can be
// interrupted; in the end both have succeeded.
func secondApply(t *testing.T) {
	operator.Write(t, operator.Inventory, gated, 0o644)
	first := operator.Start(t, "opencoded", "apply")
	operator.Eventually(t, "the first apply starts alpha", func() bool {
		return operator.Command(t, "systemctl", "is-active", "opencode-alpha-setup").Stdout == "activating\n"
	})
	holder := fmt.Sprintf("waiting for opencoded apply (pid %d)\n", first.PID())

	second := operator.Start(t, "opencoded", "apply")
	third := operator.Start(t, "opencoded", "apply")
	purge := operator.Start(t, "opencoded", "purge", "--yes", "nothing")
	for _, p := range []*operator.Process{second, third, purge} {
		operator.Eventually(t, "it says for whom it waits", func() bool { return strings.Contains(p.Stderr(), holder) })
	}
	// Reading needs no lock.
	operator.Same(t, "exit code of plan meanwhile", operator.Command(t, "opencoded", "plan").Code, 0)

	third.Signal(os.Interrupt)
	r := third.Wait()
	operator.Same(t, "exit code of an interrupted apply", r.Code, 1)
	operator.Same(t, "what it did", r.Stdout, "")
	operator.Contains(t, "an interrupted apply", r.Stderr, "interrupt signal received")
	purge.Signal(syscall.SIGTERM)
	operator.Same(t, "exit code of a purge that was ended", purge.Wait().Code, 1)

	operator.Write(t, "/srv/alpha/go", "", 0o644)
	if r := first.Wait(); r.Code != 0 {
		t.Errorf("the first apply: %v", r)
	}
	r = second.Wait()
	operator.Same(t, "exit code of the second apply", r.Code, 0)
	operator.Same(t, "what it said while it waited", strings.Count(r.Stderr, "waiting for"), 1)
	operator.Contains(t, "the second apply", r.Stdout, "Nothing to do")
	interruptedAtWork(t)
}

// interruptedAtWork: Ctrl-C in the middle ends an apply with a word, and the
// next one converges.
func interruptedAtWork(t *testing.T) {
	operator.Sh(t, "rm /srv/alpha/go; systemctl stop opencode-alpha")
	p := operator.Start(t, "opencoded", "apply")
	operator.Eventually(t, "it starts alpha", func() bool {
		return operator.Command(t, "systemctl", "is-active", "opencode-alpha-setup").Stdout == "activating\n"
	})
	p.Signal(os.Interrupt)
	r := p.Wait()
	operator.Same(t, "exit code of an apply interrupted at work", r.Code, 4)
	operator.Contains(t, "an apply interrupted at work", r.Stderr, "interrupt signal received")
	operator.Write(t, "/srv/alpha/go", "", 0o644)
	operator.Must(t, "opencoded", "apply")
	operator.NothingToDo(t)
}
