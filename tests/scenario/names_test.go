package scenario

import (
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/tier"
)

// TestNames runs in a root with the resolver of systemd and the caching daemon of the C library, which no host gets from
// running these tests. It is a Debian whose /bin, /sbin and /lib are directories of their own, as the example sees them
// nowhere else.
func TestNames(t *testing.T) {
	tier.Need(t, "names", tier.Machine())
	opts := machine.Options{Name: "names"}
	if !machine.Inside() {
		root, err := tier.GuestRoot("bookworm-unmerged", "systemd-resolved", "libnss-resolve", "nscd", "nodejs")
		tier.Need(t, "names", err)
		opts.Root = root
		opts.Binds = append(binds(t), machine.Bind{Source: "../../examples/two-instances.toml", Target: exampleInside})
	}
	t.Run("names", func(t *testing.T) { machine.Run(t, opts, names) })
	t.Run("unmerged", func(t *testing.T) { machine.Run(t, opts, unmerged) })
}

// The world's name server is out of reach for all instances: it answers nobody but the host's resolver.
const resolving = `
version = 1
[defaults]
network_isolation = { enable = true, outbound_allow_cidrs = ["198.51.100.0/24"], on_block = "reject" }
[instances.asks]
directory = "/srv/asks"
listen.port = 8701
[instances.mute]
directory = "/srv/mute"
listen.port = 8702
network_isolation.dns = false
`

// lookup resolves as node programs do.
const lookup = `node -e 'require("dns").lookup(process.argv[1], (e, a) => console.log(e ? e.code : a))' `

// names: with systemd-resolved and with nscd instances resolve names of hosts and accounts, and without
// network_isolation.dns they get at neither.
func names(t *testing.T) {
	makeWorld(t)
	serve(t, "world", "dns "+allowed4+":53 "+other4)
	operator.Write(t, "/etc/systemd/resolved.conf.d/world.conf", "[Resolve]\nDNS="+allowed4+"\nDomains=~.\nDNSSEC=no\nLLMNR=no\nMulticastDNS=no\n", 0o644)
	operator.Sh(t, `
ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
echo 203.0.113.9 of-the-host.example >>/etc/hosts
systemctl stop nscd
systemctl restart systemd-resolved`)
	operator.Same(t, "root", operator.Sh(t, "getent ahostsv4 name.example | head -1 | cut -d' ' -f1"), other4)
	operator.Apply(t, resolving)
	asks, mute := enter(t, "asks"), enter(t, "mute")

	// By the stub on loopback, by nss-resolve's socket, and what resolved and the C library know by themselves.
	const dns, resolve = "hosts: files dns\n", "hosts: resolve\n"
	for _, how := range []string{dns, resolve} {
		operator.Sh(t, "sed -i 's/^hosts:.*/"+strings.TrimSpace(how)+"/' /etc/nsswitch.conf")
		resolves(t, strings.TrimSpace(how), asks)
		silent(t, strings.TrimSpace(how), mute)
	}

	// By nscd alone, as on NixOS, where no program finds the modules itself.
	operator.Sh(t, "systemctl start nscd; nscd -i hosts; nscd -i passwd")
	module := operator.Sh(t, "find /lib /usr/lib -name libnss_resolve.so.2")
	modules := `sandbox.inaccessible_paths = ["` + module + `"]`
	operator.Apply(t, strings.Replace(resolving, "[defaults]\n", "[defaults]\n"+modules+"\n", 1))
	asks, mute = enter(t, "asks"), enter(t, "mute")
	asks.refused(t, "cat "+module, "Permission denied")
	resolves(t, "nscd", asks)
	silent(t, "nscd", mute)
	operator.Sh(t, "systemctl stop nscd")
	asks.refused(t, "getent ahostsv4 other.example", "")
}

func resolves(t *testing.T, how string, a *agent) {
	t.Helper()
	for script, want := range map[string]string{
		"getent ahostsv4 some.example | head -1 | cut -d' ' -f1": other4,
		lookup + "some.example":                                  other4,
		lookup + "of-the-host.example":                           "203.0.113.9",
		"getent ahostsv4 localhost | head -1 | cut -d' ' -f1":    "127.0.0.1",
		"getent passwd root | cut -d: -f3,7":                     "0:/bin/bash",
		"getent passwd $(id -u) | cut -d: -f1; getent group " + "opencode-" + a.name + " | cut -d: -f1; id -un": "opencode-" + a.name + "\nopencode-" + a.name + "\nopencode-" + a.name,
	} {
		if got := a.must(t, script); got != want {
			t.Errorf("%s: inside %s: %s: %q, want %q", how, a.name, script, got, want)
		}
	}
}

// silent: no question leaves the instance, by whatever way; accounts and the host's own list still are there.
func silent(t *testing.T, how string, a *agent) {
	t.Helper()
	if got := a.must(t, lookup+"some.example"); got == other4 {
		t.Errorf("%s: inside %s, which may not ask, a name resolves", how, a.name)
	}
	a.refused(t, "getent ahostsv4 some.example", "")
	a.refused(t, "ls /run/nscd/socket /var/run/nscd/socket /run/systemd/resolve/io.systemd.Resolve", "")
	if got := a.must(t, "getent passwd root | cut -d: -f3; id -un"); got != "0\nopencode-"+a.name {
		t.Errorf("%s: inside %s: accounts: %q", how, a.name, got)
	}
}

// unmerged: where /bin, /sbin and /lib are directories of their own, the example comes up and its sandbox is the same.
func unmerged(t *testing.T) {
	for _, dir := range []string{"/bin", "/sbin", "/lib"} {
		operator.Same(t, "links at "+dir, operator.Sh(t, "find "+dir+" -maxdepth 0 -type l"), "")
	}
	operator.Sh(t, "systemctl stop nscd")
	twoInstancesOfTheExample(t)
	a := enter(t, "restricted")
	for _, dir := range []string{"/bin", "/sbin", "/lib", "/lib64", "/usr/bin"} {
		a.refused(t, "touch "+dir+"/x", "Read-only file system")
	}
	operator.Same(t, "what the root holds", a.must(t, "ls -d /* | xargs"), operator.Sh(t, "echo /bin /dev /etc /home /lib /lib64 /opt /proc /root /run /sbin /srv /sys /tmp /usr /var"))
}
