package scenario

import (
	"errors"
	"testing"

	"github.com/opencoded/opencoded/internal/confine"
	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/tier"
)

// confined: what no mount hides is out of reach all the same: abstract Unix sockets
// and signals to processes of the same user. Within an instance both work, and with
// allow_namespaces so do namespaces.
func confined(t *testing.T) {
	serve(t, "", "web @of-the-host")
	operator.Apply(t, twoInstances+`
sandbox.allow_namespaces = true
unit.Service.ProtectClock = false
`)
	alpha, beta := enter(t, "alpha"), enter(t, "beta")

	r := operator.Command(t, "opencoded", "doctor")
	operator.Same(t, "exit code of doctor", r.Code, 0)
	for _, line := range []string{
		"  note     opencoded.service does not run", "alpha\n  ok       healthy\n  ok       exposure 1.1 of 10\n",
		"beta\n  ok       healthy\n  note     exposure 2.2 of 10, unit.Service.ProtectClock adds 0.1, sandbox.allow_namespaces adds 1.0\n",
	} {
		operator.Contains(t, "doctor", r.Stdout, line)
	}

	// Perl is part of every Debian, and can connect to a socket without a path.
	connect := func(name string) string {
		return `perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, pack_sockaddr_un("\0` + name + `")) or die "$!\n"; print "connected"'`
	}
	const listen = `perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); bind(S, pack_sockaddr_un("\0own")) && listen(S, 1) or die $!; open(F, ">", "ready"); sleep 60' &`
	if confine.ABI() < confine.ScopingABI {
		tier.Need(t, "scenario", errors.New("a kernel whose Landlock scopes abstract Unix sockets (Linux 6.12)"))
	}
	alpha.refused(t, connect("of-the-host"), "Operation not permitted")
	operator.Same(t, "root", operator.Sh(t, connect("of-the-host")), "connected")
	operator.Same(t, "a socket of its own", alpha.must(t, listen+" while [ ! -e ready ]; do sleep 0.01; done; "+connect("own")+"; kill %1"), "connected")

	operator.Sh(t, "systemd-run -q --unit=outside -p User=opencode-alpha sleep 600")
	outside := operator.Must(t, "systemctl", "show", "-P", "MainPID", "outside")
	alpha.refused(t, "kill -0 "+outside, "Operation not permitted")
	alpha.must(t, "sleep 60 & kill $!")

	const nested = "unshare -Urm sh -c 'mount -t tmpfs none /tmp && touch /tmp/x && id -u'"
	alpha.refused(t, nested, "Operation not permitted")
	operator.Same(t, "a user namespace", beta.must(t, nested), "0")
	if operator.Command(t, "which", "bwrap").Code == 0 {
		const bwrap = "bwrap --ro-bind / / --dev /dev --ro-bind /proc /proc --tmpfs /tmp --unshare-all sh -c 'echo nested; ls /tmp'"
		alpha.refused(t, bwrap, "")
		operator.Same(t, "bubblewrap", beta.must(t, bwrap), "nested")
	}
	beta.refused(t, "unshare -Urm mount -o remount,rw /usr", "")
	beta.refused(t, "unshare -Urm umount /etc/systemd/system", "")
}
