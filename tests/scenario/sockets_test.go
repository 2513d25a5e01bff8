package scenario

import (
	"os"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// socketsComeAndGo: a server whose directory goes with it, and comes after the
// instance, is reached all the same while opencoded.service runs; and the agent cannot
// use that to have something mounted elsewhere.
func socketsComeAndGo(t *testing.T) {
	operator.Apply(t, twoInstances+`
[instances.gamma]
directory = "/srv/gamma"
listen.port = 8703
sandbox.unix_sockets.allow = ["/run/cache", "/run/planted/dir", "/var/lib/store/one.sock"]
`)
	operator.NothingToDo(t)
	gamma, beta := enter(t, "gamma"), enter(t, "beta")
	start := func(unit, directory, socket string) {
		operator.Must(t, "systemd-run", "-q", "--unit="+unit, "-p", directory, "-p", "UMask=0", "-E", roleVariable+"=web "+socket, os.Args[0])
	}
	ask := func(socket string) string { return "curl -sS -m 2 --unix-socket " + socket + " http://x/" }

	start("cache", "RuntimeDirectory=cache", "/run/cache/socket")
	operator.Eventually(t, "doctor sees that gamma does not", func() bool {
		return strings.Contains(operator.Command(t, "opencoded", "doctor").Stdout, "/run/cache is not the one that was there when the server started")
	})
	gamma.refused(t, ask("/run/cache/socket"), "Couldn't connect")

	operator.Must(t, "systemctl", "start", "opencoded")
	reaches := func(what, socket string) {
		operator.Eventually(t, what, func() bool { out, _ := gamma.run(t, ask(socket)); return out == "hello" })
	}
	reaches("a server that came later", "/run/cache/socket")
	pid := operator.PID(t, "gamma")
	for range 2 {
		operator.Must(t, "systemctl", "stop", "cache")
		start("cache", "RuntimeDirectory=cache", "/run/cache/socket")
		reaches("a server that came back", "/run/cache/socket")
	}
	operator.Same(t, "mounts of what went", gamma.must(t, "grep -c ' /run/cache ' /proc/self/mountinfo"), "1")
	gamma.refused(t, "touch /run/cache/x", "Read-only file system")
	beta.refused(t, ask("/run/cache/socket"), "Couldn't connect")
	start("store", "StateDirectory=store", "/var/lib/store/one.sock")
	reaches("a socket named by itself", "/var/lib/store/one.sock")

	gamma.must(t, "ln -s /etc /run/planted")
	operator.Must(t, "mkdir", "-p", "/run/planted/dir")
	operator.Eventually(t, "the link is found", func() bool {
		return strings.Contains(operator.Must(t, "journalctl", "-u", "opencoded", "-o", "cat", "--no-pager"), "cannot bind a socket directory that came")
	})
	gamma.refused(t, "ls -d /etc/dir", "No such file or directory")
	operator.Same(t, "pid of gamma", operator.PID(t, "gamma"), pid)
	operator.NothingToDo(t)
}

// nothingIsLeft: whatever the agent did to outlive it, a stop ends all of it; and a
// server that does not stay up is given up, visibly.
func nothingIsLeft(t *testing.T) {
	operator.Apply(t, strings.Replace(twoInstances, "listen.port = 8701", `listen.port = 8701
unit.Service.TimeoutStopSec = "2s"
unit.Unit.StartLimitBurst = 2`, 1))
	alpha := enter(t, "alpha")
	alpha.must(t, `
(setsid bash -c 'trap "" TERM HUP INT; (sleep 1000 & sleep 1001 & wait) & disown; exec sleep 1002' >/dev/null 2>&1 &)
nohup bash -c 'trap "" TERM; while :; do sleep 1; done' >/dev/null 2>&1 &
perl -e 'fork && exit; fork && exit; $SIG{TERM} = "IGNORE"; sleep 1000' >/dev/null 2>&1 </dev/null`)
	left := func() string { return operator.Sh(t, "ps -o args= -u opencode-alpha || true") }
	for _, p := range []string{"sleep 1000", "sleep 1001", "sleep 1002", "perl -e"} {
		operator.Contains(t, "processes of alpha", left(), p)
	}
	operator.Must(t, "systemctl", "stop", "opencode-alpha")
	operator.Same(t, "processes of alpha after a stop", left(), "")

	operator.Must(t, "systemctl", "start", "opencode-alpha")
	operator.Eventually(t, "alpha is given up", func() bool {
		operator.Command(t, "systemctl", "kill", "-s", "SEGV", "opencode-alpha")
		return operator.Status(t, "alpha").State == "failed"
	})
	s := operator.Status(t, "alpha")
	operator.Contains(t, "why", s.Detail, ", given up after ")
	operator.Same(t, "state of beta", operator.Status(t, "beta").State, "healthy")
	operator.Same(t, "who is updated by itself", enter(t, "beta").must(t, "echo $OPENCODE_DISABLE_AUTOUPDATE"), "1")
}
