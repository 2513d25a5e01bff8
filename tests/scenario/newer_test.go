package scenario

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/judge"
	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/tier"
)

// newerScenarios ask for what depends on systemd's version, and hold those that
// one was seen to fail. All others run there with MACHINE_ROOT=DIR.
var newerScenarios = []struct {
	name string
	run  func(t *testing.T)
}{
	{"two-instances", twoInstancesOfTheExample},
	{"unit-directory", unitDirectory},
}

const exampleInside = "/usr/local/share/opencoded/two-instances.toml"

// TestNewerSystemd runs in a machine over another root than this host's: a Debian
// of the suite $NEWER_SUITE with its systemd, made by scripts/guest-root.
func TestNewerSystemd(t *testing.T) {
	tier.Need(t, "newer", tier.Machine())
	opts := machine.Options{Name: "newer"}
	if !machine.Inside() {
		root, err := tier.GuestRoot(cmp.Or(os.Getenv("NEWER_SUITE"), "trixie"))
		tier.Need(t, "newer", err)
		opts.Root = root
		opts.Binds = append(binds(t), machine.Bind{Source: "../../examples/two-instances.toml", Target: exampleInside})
	}
	for _, s := range newerScenarios {
		t.Run(s.name, func(t *testing.T) { machine.Run(t, opts, s.run) })
	}
}

// twoInstancesOfTheExample: the example comes up, its units mean to this systemd
// what they say, they hold what they promise, and a restart keeps it so.
func twoInstancesOfTheExample(t *testing.T) {
	version := judge.SystemdVersion(t)
	t.Logf("systemd %d", version)
	makeWorld(t)
	serve(t, "world", "web [::]:9000")
	r := operator.Apply(t, operator.Read(t, exampleInside))
	operator.Contains(t, "apply", r.Stdout, "open: healthy")
	operator.Contains(t, "apply", r.Stdout, "restricted: healthy")
	understood(t, version)

	open, restricted := enter(t, "open"), enter(t, "restricted")
	holds := func() {
		t.Helper()
		operator.Same(t, "restricted reaches "+allowed4, restricted.must(t, fetch(allowed4, 9000)), "hello")
		operator.Same(t, "restricted reaches "+allowed6, restricted.must(t, fetch(allowed6, 9000)), "hello")
		restricted.refused(t, fetch(other4, 9000), "timed out")
	}
	holds()
	operator.Same(t, "packets that reached "+other4, received(t, other4), 0)
	apart(t, open, operator.PID(t, "restricted"))
	if version >= 257 {
		operator.Same(t, "control groups that open sees", open.must(t, "find /sys/fs/cgroup -mindepth 1 -type d; cut -d: -f3 /proc/self/cgroup | sort -u"), "/")
	}
	operator.NothingToDo(t)
	movedPolicy(t, restricted)

	before := operator.PID(t, "restricted")
	operator.Must(t, "systemctl", "restart", "opencode-restricted")
	operator.Eventually(t, "restricted is healthy again", func() bool { return operator.Status(t, "restricted").State == "healthy" })
	if operator.PID(t, "restricted") == before {
		t.Error("restricted did not restart")
	}
	restricted = enter(t, "restricted")
	holds()
	operator.NothingToDo(t)
	operator.Same(t, "open reaches "+other4, open.must(t, fetch(other4, 9000)), "hello")
}

// apart: one instance finds nothing of the other; the scenario "isolation" asks
// for more.
func apart(t *testing.T, open *agent, other string) {
	for _, p := range []string{"/srv/restricted", "/var/lib/opencode/instance-state/restricted", "/proc/" + other, "/proc/1/environ", "/var/lib/opencoded", "/run/systemd/private"} {
		open.refused(t, "ls -d "+p, "No such file or directory")
	}
	open.refused(t, "touch /etc/x", "Read-only file system")
	open.refused(t, "kill -0 "+other, "Operation not permitted")
	operator.Lacks(t, "processes that open sees", open.must(t, "ps axe -o user,args"), "opencode-restricted")
	operator.Same(t, "its capabilities and rights", open.must(t, "grep -E 'CapBnd|NoNewPrivs' /proc/self/status | tr -d '\\t' | xargs"), "CapBnd:0000000000000000 NoNewPrivs:1")
}

// movedPolicy: another network is allowed, and both that enforce it know at once:
// nftables and, seen without it, the running unit's filter.
func movedPolicy(t *testing.T, restricted *agent) {
	example := operator.Read(t, exampleInside)
	before := operator.PID(t, "restricted")
	operator.Apply(t, strings.Replace(example, "192.0.2.0/24", "198.51.100.0/24", 1))
	operator.Same(t, "newly allowed", restricted.must(t, fetch(other4, 9000)), "hello")
	restricted.refused(t, fetch(allowed4, 9000), "timed out")
	operator.Must(t, "nft", "flush", "ruleset")
	operator.Same(t, "newly allowed without nftables", restricted.must(t, fetch(other4, 9000)), "hello")
	restricted.refused(t, fetch(allowed4, 9000), "")
	operator.Apply(t, example)
	operator.Same(t, "pid after two policies", operator.PID(t, "restricted"), before)
}

// understood: systemd has read the units without a word, rates them as it does
// elsewhere, and has what only newer versions know.
func understood(t *testing.T, version int) {
	for _, name := range []string{"open", "open-setup", "restricted", "restricted-setup"} {
		path := "/etc/systemd/system/opencode-" + name + ".service"
		r := operator.Command(t, "systemd-analyze", "verify", "--man=no", path)
		operator.Same(t, "systemd-analyze verify "+path, r.Stdout+r.Stderr, "")
		rating := "1.1 OK"
		if strings.HasPrefix(name, "restricted") {
			rating = "1.0 OK"
		}
		said := operator.Must(t, "systemd-analyze", "security", "--no-pager", "opencode-"+name+".service")
		operator.Contains(t, "systemd-analyze security", said, "level for opencode-"+name+".service: "+rating)
	}
	said := operator.Sh(t, `journalctl --no-pager -q -o cat _PID=1 | grep -iE "opencode.*(ignor|unknown|invalid|deprecat|obsolete)" || true`)
	operator.Same(t, "what systemd complains of", said, "")
	if version >= 254 {
		shown := operator.Must(t, "systemctl", "show", "-P", "RestartSteps", "-P", "RestartMaxDelayUSec", "opencode-open")
		operator.Same(t, "back-off of restarts", strings.Join(strings.Fields(shown), " "), fmt.Sprint("6 1min"))
	}
}
