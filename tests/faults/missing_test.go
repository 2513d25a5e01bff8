package faults

import (
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// missingParts: without root, systemd, nftables or a part of them, a command
// says which is missing and what to do, and touches nothing.
func missingParts(t *testing.T) {
	operator.Apply(t, twoInstances)
	operator.Sh(t, "mkdir -p /run/mount") // mount(8) leaves it behind
	before := snapshot(t)
	for name, with := range map[string][]string{
		"nobody":                     {"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"},
		"root without CAP_NET_ADMIN": {"setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"},
		"no systemd":                 {"unshare", "--mount", "sh", "-c", `mount -t tmpfs none /run && exec "$@"`, "sh"},
		"no D-Bus socket":            {"unshare", "--mount", "sh", "-c", `mount -t tmpfs none /run && mkdir -p /run/systemd/system && exec "$@"`, "sh"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, command := range [][]string{{"plan"}, {"apply"}, {"status"}, {"purge", "--yes", "alpha"}, {"net", "ensure", "alpha"}} {
				missing(t, name, with, command)
			}
		})
	}
	unchanged(t, before)
	withoutRoot(t)
	withoutNft(t)
}

// remedies is what each command has to say where something is missing.
var remedies = map[string][]string{
	"nobody":                     {"must be run as root (use sudo; `opencoded validate FILE` works without)"},
	"root without CAP_NET_ADMIN": {"cannot use nftables: CAP_NET_ADMIN is missing", "run as root, or in a container grant the capability"},
	"no systemd":                 {"cannot reach systemd: it is not running as the first process", "boot the host with systemd, install the package systemd-sysv"},
	"no D-Bus socket":            {"cannot reach systemd over D-Bus", "systemctl status"},
}

func missing(t *testing.T, what string, with, command []string) {
	t.Helper()
	args := append(append(append([]string{}, with[1:]...), "opencoded"), command...)
	r := operator.Command(t, with[0], args...)
	// Rules need no systemd: a unit that starts loads them by itself.
	if command[0] == "net" && (what == "no systemd" || what == "no D-Bus socket") {
		operator.Same(t, "net ensure, exit code", r.Code, 0)
		return
	}
	operator.Same(t, command[0]+", exit code", r.Code, 1)
	operator.Same(t, command[0]+", output", r.Stdout, "")
	for _, part := range remedies[what] {
		operator.Contains(t, command[0], r.Stderr, part)
	}
}

// withoutRoot: what is said to work without root does.
func withoutRoot(t *testing.T) {
	as := func(args ...string) operator.Result {
		return operator.Command(t, "setpriv", append([]string{"--reuid=nobody", "--regid=nogroup", "--clear-groups", "opencoded"}, args...)...)
	}
	for _, args := range [][]string{{"validate"}, {"validate", "--host"}, {"version"}, {"--help"}} {
		if r := as(args...); r.Code != 0 || r.Stderr != "" && args[0] != "validate" {
			t.Errorf("as nobody, %v: %v", args, r)
		}
	}
}

// withoutNft: the program nft is for people, opencoded speaks to the kernel.
func withoutNft(t *testing.T) {
	r := operator.Command(t, "unshare", "--mount", "sh", "-c",
		`mount --bind /bin/false "$(command -v nft)" && ! nft list ruleset && exec opencoded apply`)
	operator.Same(t, "apply without the program nft, exit code", r.Code, 0)
	operator.NothingToDo(t)
}
