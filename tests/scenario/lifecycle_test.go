package scenario

import (
	"os"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

const twoInstances = `
version = 1
[defaults]
log_level = "info"
[instances.alpha]
directory = "/srv/alpha"
listen.port = 8701
[instances.beta]
directory = "/srv/beta"
listen.port = 8702
`

// lifecycle: two servers, two ports, two users; each restarts by itself, one is
// removed while the other keeps its process, and comes back with its state.
func lifecycle(t *testing.T) {
	before := reloads(t)
	r := operator.Apply(t, twoInstances)
	operator.Contains(t, "apply", r.Stdout, "alpha: healthy")
	operator.Contains(t, "apply", r.Stdout, "beta: healthy")
	operator.Same(t, "reloads of systemd by the first apply", reloads(t)-before, 1)
	operator.NothingToDo(t)
	operator.Same(t, "reloads after the second", reloads(t)-before, 1)

	for _, name := range []string{"alpha", "beta"} {
		s := operator.Status(t, name)
		operator.Same(t, name+" state", s.State, "healthy")
		operator.Same(t, name+" version", s.Version, strings.TrimSpace(operator.Must(t, "opencode", "--version")))
		operator.Same(t, name+" user", enter(t, name).must(t, "id -un"), "opencode-"+name)
		// "enabled-runtime" where units stand in /run.
		operator.Same(t, name+" is enabled", strings.TrimSuffix(operator.Must(t, "systemctl", "is-enabled", "opencode-"+name), "-runtime"), "enabled")
	}
	operator.Same(t, "alpha address", operator.Status(t, "alpha").Address, "127.0.0.1:8701")

	alpha, beta := operator.PID(t, "alpha"), operator.PID(t, "beta")
	operator.Must(t, "systemctl", "restart", "opencode-alpha")
	operator.Eventually(t, "alpha is healthy again", func() bool { return operator.Status(t, "alpha").State == "healthy" })
	if operator.PID(t, "alpha") == alpha {
		t.Error("alpha did not restart")
	}
	operator.Same(t, "pid of beta after alpha restarted", operator.PID(t, "beta"), beta)

	// A killed server comes back by itself.
	alpha = operator.PID(t, "alpha")
	operator.Must(t, "kill", "-SEGV", alpha)
	operator.Eventually(t, "alpha is back after a crash", func() bool {
		s := operator.Status(t, "alpha")
		return s.State == "healthy" && operator.PID(t, "alpha") != alpha
	})
	operator.Same(t, "pid of beta after alpha crashed", operator.PID(t, "beta"), beta)

	enter(t, "alpha").must(t, "echo kept > ~/kept")
	removed(t, beta)
	returned(t, beta)
}

// reloads is how often systemd has read its unit files again.
func reloads(t *testing.T) int {
	// Newer versions also say when they have finished.
	return strings.Count(operator.Must(t, "journalctl", "--no-pager", "-q", "-o", "cat", "_PID=1"), "Reloading.")
}

// removed takes alpha out of the inventory.
func removed(t *testing.T, beta string) {
	r := operator.Apply(t, strings.Replace(twoInstances, "[instances.alpha]", "[instances.alpha]\nenable = false", 1))
	operator.Contains(t, "apply", r.Stdout, "alpha: removed")
	operator.Same(t, "pid of beta after alpha was removed", operator.PID(t, "beta"), beta)
	operator.Same(t, "alpha", operator.Command(t, "systemctl", "is-active", "opencode-alpha", "opencode-alpha-setup").Stdout, "inactive\ninactive\n")
	operator.Same(t, "units of alpha that are left", operator.Sh(t, "find /etc/systemd/system /run/systemd/system -name 'opencode-alpha*.service'"), "")
	operator.Must(t, "id", "opencode-alpha")
	operator.Same(t, "state of alpha", operator.Read(t, "/var/lib/opencode/instance-state/alpha/kept"), "kept\n")
	operator.NothingToDo(t)
	operator.Same(t, "disabled", operator.Status(t, "alpha").State, "disabled")
}

// returned enables alpha again, then purges it.
func returned(t *testing.T, beta string) {
	uid := operator.Must(t, "id", "-u", "opencode-alpha")
	operator.Apply(t, twoInstances)
	operator.Same(t, "uid of alpha", operator.Must(t, "id", "-u", "opencode-alpha"), uid)
	operator.Same(t, "kept", enter(t, "alpha").must(t, "cat ~/kept"), "kept")

	r := operator.Command(t, "opencoded", "purge", "--yes", "alpha")
	operator.Same(t, "purge of an enabled instance exits with", r.Code, 1)
	operator.Contains(t, "purge", r.Stderr, "still enables")

	operator.Apply(t, strings.Split(twoInstances, "[instances.alpha]")[0]+"[instances.beta]"+strings.Split(twoInstances, "[instances.beta]")[1])
	r = operator.Command(t, "opencoded", "purge", "alpha") // standard input is empty: not confirmed
	operator.Same(t, "purge without an answer exits with", r.Code, 1)
	operator.Contains(t, "purge", r.Stdout, "/var/lib/opencode/instance-state/alpha")
	operator.Must(t, "opencoded", "purge", "--yes", "alpha")
	for _, p := range []string{"/var/lib/opencode/instance-state/alpha", "/var/lib/opencoded/instances/alpha", "/etc/sysusers.d/opencode-alpha.conf"} {
		if _, err := os.Lstat(p); err == nil {
			t.Errorf("%s is still there after a purge", p)
		}
	}
	operator.Same(t, "account after a purge, exit code of id", operator.Command(t, "id", "opencode-alpha").Code, 1)
	if _, err := os.Stat("/srv/alpha"); err != nil {
		t.Error("a purge took the project directory")
	}
	operator.Same(t, "pid of beta at the end", operator.PID(t, "beta"), beta)
	operator.NothingToDo(t)
}
