package scenario

import (
	"os"
	"strings"
	"testing"
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
	r := apply(t, twoInstances)
	contains(t, "apply", r.stdout, "alpha: healthy")
	contains(t, "apply", r.stdout, "beta: healthy")
	nothingToDo(t)

	for _, name := range []string{"alpha", "beta"} {
		s := status(t, name)
		same(t, name+" state", s.State, "healthy")
		same(t, name+" version", s.Version, strings.TrimSpace(must(t, "opencode", "--version")))
		same(t, name+" user", enter(t, name).must(t, "id -un"), "opencode-"+name)
		same(t, name+" is enabled", must(t, "systemctl", "is-enabled", "opencode-"+name), "enabled")
	}
	same(t, "alpha address", status(t, "alpha").Address, "127.0.0.1:8701")

	alpha, beta := pid(t, "alpha"), pid(t, "beta")
	must(t, "systemctl", "restart", "opencode-alpha")
	eventually(t, "alpha is healthy again", func() bool { return status(t, "alpha").State == "healthy" })
	if pid(t, "alpha") == alpha {
		t.Error("alpha did not restart")
	}
	same(t, "pid of beta after alpha restarted", pid(t, "beta"), beta)

	// A killed server comes back by itself.
	alpha = pid(t, "alpha")
	must(t, "kill", "-SEGV", alpha)
	eventually(t, "alpha is back after a crash", func() bool {
		s := status(t, "alpha")
		return s.State == "healthy" && pid(t, "alpha") != alpha
	})
	same(t, "pid of beta after alpha crashed", pid(t, "beta"), beta)

	enter(t, "alpha").must(t, "echo kept > ~/kept")
	removed(t, beta)
	returned(t, beta)
}

// removed takes alpha out of the inventory.
func removed(t *testing.T, beta string) {
	r := apply(t, strings.Replace(twoInstances, "[instances.alpha]", "[instances.alpha]\nenable = false", 1))
	contains(t, "apply", r.stdout, "alpha: removed")
	same(t, "pid of beta after alpha was removed", pid(t, "beta"), beta)
	same(t, "alpha", command(t, "systemctl", "is-active", "opencode-alpha", "opencode-alpha-setup").stdout, "inactive\ninactive\n")
	for _, p := range []string{"/etc/systemd/system/opencode-alpha.service", "/etc/systemd/system/opencode-alpha-setup.service",
		"/etc/systemd/system/multi-user.target.wants/opencode-alpha.service"} {
		if _, err := os.Lstat(p); err == nil {
			t.Errorf("%s is still there", p)
		}
	}
	must(t, "id", "opencode-alpha")
	same(t, "state of alpha", read(t, "/var/lib/opencode/instance-state/alpha/kept"), "kept\n")
	nothingToDo(t)
	same(t, "disabled", status(t, "alpha").State, "disabled")
}

// returned enables alpha again, then purges it.
func returned(t *testing.T, beta string) {
	uid := must(t, "id", "-u", "opencode-alpha")
	apply(t, twoInstances)
	same(t, "uid of alpha", must(t, "id", "-u", "opencode-alpha"), uid)
	same(t, "kept", enter(t, "alpha").must(t, "cat ~/kept"), "kept")

	r := command(t, "opencoded", "purge", "--yes", "alpha")
	same(t, "purge of an enabled instance exits with", r.code, 1)
	contains(t, "purge", r.stderr, "still enables")

	apply(t, strings.Split(twoInstances, "[instances.alpha]")[0]+"[instances.beta]"+strings.Split(twoInstances, "[instances.beta]")[1])
	r = command(t, "opencoded", "purge", "alpha") // standard input is empty: not confirmed
	same(t, "purge without an answer exits with", r.code, 1)
	contains(t, "purge", r.stdout, "/var/lib/opencode/instance-state/alpha")
	must(t, "opencoded", "purge", "--yes", "alpha")
	for _, p := range []string{"/var/lib/opencode/instance-state/alpha", "/var/lib/opencoded/instances/alpha", "/etc/sysusers.d/opencode-alpha.conf"} {
		if _, err := os.Lstat(p); err == nil {
			t.Errorf("%s is still there after a purge", p)
		}
	}
	same(t, "account after a purge, exit code of id", command(t, "id", "opencode-alpha").code, 1)
	if _, err := os.Stat("/srv/alpha"); err != nil {
		t.Error("a purge took the project directory")
	}
	same(t, "pid of beta at the end", pid(t, "beta"), beta)
	nothingToDo(t)
}
