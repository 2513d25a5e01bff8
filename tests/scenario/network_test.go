package scenario

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

const restrictedAlpha = `
version = 1
[instances.alpha]
directory = "/srv/alpha"
listen.port = 8701
[instances.alpha.network_isolation]
enable = true
outbound_allow_cidrs = ["192.0.2.0/24", "2001:db8:1::/64"]
[instances.beta]
directory = "/srv/beta"
listen.port = 8702
`

// networkPolicy: what is allowed is reached, what is not reaches nobody, and
// both are counted at the target; blocked attempts are logged, at a rate.
func networkPolicy(t *testing.T) {
	makeWorld(t)
	serve(t, "world", "web [::]:9000 0.0.0.0:9001")
	operator.Apply(t, restrictedAlpha)
	alpha, beta := enter(t, "alpha"), enter(t, "beta")
	operator.Must(t, "nft", "list", "table", "inet", "opencode-alpha")

	for _, a := range []string{allowed4, allowed6} {
		operator.Same(t, "alpha reaches "+a, alpha.must(t, fetch(a, 9000)), "hello")
		if received(t, a) == 0 {
			t.Errorf("no packet for %s was counted: the counters do not work", a)
		}
	}
	for _, a := range []string{other4, other6} {
		alpha.refused(t, fetch(a, 9000), "timed out")
		alpha.run(t, "for i in 1 2 3; do echo x > /dev/udp/"+a+"/53; done")
		operator.Same(t, "packets that reached "+a, received(t, a), 0)
	}
	for _, a := range []string{other4, other6} {
		operator.Same(t, "beta reaches "+a, beta.must(t, fetch(a, 9000)), "hello")
	}
	loggedAtARate(t, alpha)
	unharmed(t)
	livePolicy(t, alpha)
	enforcedBySystemd(t)
}

// loggedAtARate: the kernel logs blocked packets with the instance's prefix, no
// more than the burst and then the rate; the counter misses none.
func loggedAtARate(t *testing.T, alpha *agent) {
	logged := func() int { return strings.Count(operator.Must(t, "dmesg"), "opencode-alpha-blocked: ") }
	if logged() == 0 {
		t.Error("nothing was logged with the prefix opencode-alpha-blocked")
	}
	operator.Contains(t, "journal of the kernel", operator.Must(t, "journalctl", "-k", "--no-pager"), "opencode-alpha-blocked: ")
	before, counted := logged(), operator.Status(t, "alpha").Blocked
	alpha.run(t, "for i in $(seq 200); do echo x > /dev/udp/"+other4+"/9; done")
	if n := logged() - before; n > 5+2 {
		t.Errorf("%d lines for 200 packets, want the burst of 5 and hardly more", n)
	}
	if n := operator.Status(t, "alpha").Blocked - counted; n < 200 {
		t.Errorf("%d packets counted, want 200", n)
	}
	operator.Same(t, "blocked packets of beta", operator.Status(t, "beta").Blocked, 0)
}

// unharmed: packets of the kernel itself, which belong to no socket, pass. A
// neighbour that nobody has spoken to yet must be found.
func unharmed(t *testing.T) {
	operator.Sh(t, "ip neigh flush dev host0; ip -n world neigh flush dev world0")
	operator.Same(t, "a fresh neighbour", enter(t, "alpha").must(t, fetch(allowed6, 9000)), "hello")
	// The journal begins with this machine; dmesg has the lines of others before it.
	operator.Lacks(t, "kernel log", operator.Must(t, "journalctl", "-k", "--no-pager"), "blocked: IN= OUT=host0 SRC=fe80")
	operator.Same(t, "root reaches what alpha may not", operator.Sh(t, fetch(other6, 9000)+"; "+fetch(other4, 9000)), "hellohello")
}

// livePolicy: a changed policy holds at once, and restarts nothing.
func livePolicy(t *testing.T, alpha *agent) {
	before := operator.PID(t, "alpha")
	operator.Apply(t, strings.Replace(restrictedAlpha, "enable = true", "enable = true\non_block = \"reject\"", 1))
	// curl says 7 when it could not connect, 28 when nothing answered in time.
	alpha.refused(t, fetch(other4, 9000), "curl: (7)")
	alpha.refused(t, fetch(other6, 9000), "curl: (7)")
	operator.Same(t, "allowed while rejecting", alpha.must(t, fetch(allowed4, 9000)), "hello")

	operator.Apply(t, strings.Replace(restrictedAlpha, "192.0.2.0/24", "198.51.100.0/24", 1))
	alpha.refused(t, fetch(allowed4, 9000), "timed out")
	operator.Same(t, "newly allowed", alpha.must(t, fetch(other4, 9000)), "hello")

	operator.Apply(t, strings.Replace(restrictedAlpha, "enable = true", "enable = false", 1))
	operator.Same(t, "without isolation", alpha.must(t, fetch(allowed4, 9000)), "hello")
	operator.Same(t, "tables of alpha", operator.Command(t, "nft", "list", "table", "inet", "opencode-alpha").Code, 1)
	operator.Apply(t, restrictedAlpha)
	alpha.refused(t, fetch(other4, 9000), "timed out")
	operator.Same(t, "pid of alpha after four policies", operator.PID(t, "alpha"), before)
	operator.NothingToDo(t)
}

// enforcedBySystemd: for a server that listens on loopback systemd enforces the
// policy too, even while nftables is empty; and a start puts the rules back.
func enforcedBySystemd(t *testing.T) {
	operator.Must(t, "nft", "flush", "ruleset")
	alpha, before := enter(t, "alpha"), received(t, other4)
	alpha.refused(t, fetch(other4, 9000), "")
	operator.Same(t, "packets that reached "+other4+" without nftables", received(t, other4), before)
	operator.Same(t, "allowed without nftables", alpha.must(t, fetch(allowed4, 9000)), "hello")
	operator.Must(t, "systemctl", "restart", "opencode-alpha")
	operator.Must(t, "nft", "list", "table", "inet", "opencode-alpha")
	operator.Must(t, "nft", "list", "table", "inet", "opencoded-guard")

	// Without rules that can be trusted nothing starts.
	operator.Must(t, "mv", "/var/lib/opencoded/egress.json", "/var/lib/opencoded/moved")
	operator.Same(t, "start without compiled rules", operator.Command(t, "systemctl", "restart", "opencode-alpha").Code, 1)
	operator.Contains(t, "journal", operator.Must(t, "journalctl", "-u", "opencode-alpha*", "--no-pager", "-n", "20"), "run `opencoded apply`")
	operator.Must(t, "opencoded", "apply")
	operator.Same(t, "alpha", operator.Status(t, "alpha").State, "healthy")
}

// networkInbound: clients of an isolated instance are answered, also one that
// was streaming before isolation was turned on.
func networkInbound(t *testing.T) {
	makeWorld(t)
	open := strings.Replace(restrictedAlpha, "listen.port = 8701", `listen = { address = "0.0.0.0", port = 8701 }`, 1)
	open = strings.Replace(open, `["192.0.2.0/24", "2001:db8:1::/64"]`, `["203.0.113.0/24"]`, 1)
	operator.Apply(t, strings.Replace(open, "enable = true", "enable = false", 1))
	before := operator.PID(t, "alpha")
	world := "ip netns exec world curl -sS -m 60 -u opencode:" + password(t, "alpha") + " http://" + host4 + ":8701"

	operator.Sh(t, "("+world+"/event -N > /tmp/stream 2>&1 &)")
	operator.Eventually(t, "the stream has begun", func() bool { return strings.Contains(operator.Read(t, "/tmp/stream"), "server.connected") })
	operator.Apply(t, open)
	operator.Same(t, "pid of alpha", operator.PID(t, "alpha"), before)
	a := enter(t, "alpha") // makes a session, of which the stream tells
	operator.Eventually(t, "the stream goes on", func() bool { return strings.Contains(operator.Read(t, "/tmp/stream"), a.Session()) })
	operator.Contains(t, "a new client", operator.Sh(t, world+"/global/health"), `"healthy":true`)
	a.refused(t, fetch(allowed4, 9000), "timed out")
	operator.Contains(t, "status", operator.Must(t, "opencoded", "status"), "alpha: listens beyond loopback: egress is restricted by nftables alone")
	operator.Lacks(t, "unit", operator.Must(t, "systemctl", "cat", "opencode-alpha"), "IPAddressDeny")
}

// networkGuard: no instance reaches another's port on any address of the host, a
// locked one not its own, none the cloud's metadata; other local servers stay
// reachable. Isolated or not makes no difference.
func networkGuard(t *testing.T) {
	makeWorld(t)
	serve(t, "world", "web 0.0.0.0:80")
	serve(t, "", "web 127.0.0.1:9100 [::1]:9100")
	operator.Apply(t, `
version = 1
[defaults]
listen.address = "0.0.0.0"
[instances.locked]
directory = "/srv/locked"
listen.port = 8701
[instances.isolated]
directory = "/srv/isolated"
listen = { address = "127.0.0.1", port = 8702 }
network_isolation = { enable = true, outbound_allow_cidrs = ["0.0.0.0/0", "::/0"] }
[instances.unlocked]
directory = "/srv/unlocked"
listen = { address = "::", port = 8703 }
config_lock = false
network_isolation = { enable = true, outbound_allow_cidrs = ["169.254.169.254"], on_block = "reject" }
`)
	agents := map[string]*agent{}
	ports := map[string]int{"locked": 8701, "isolated": 8702, "unlocked": 8703}
	for name := range ports {
		agents[name] = enter(t, name)
	}
	for from, a := range agents {
		operator.Same(t, from+" reaches an ordinary local server", a.must(t, fetch("127.0.0.1", 9100)), "hello")
		operator.Same(t, from+" reaches it over IPv6", a.must(t, fetch("::1", 9100)), "hello")
		for to, port := range ports {
			for _, address := range []string{"127.0.0.1", "127.9.9.9", "::1", host4, host6, "::ffff:127.0.0.1"} {
				if from == to && from == "unlocked" {
					continue
				}
				out, code := a.run(t, fmt.Sprintf("curl -sS -m 0.5 -o /dev/null http://%s:%d/", bracket(address), port))
				if code != 28 && code != 7 {
					t.Errorf("%s reaches %s at %s: exit %d: %s", from, to, address, code, out)
				}
			}
		}
	}
	// Its own port is guarded by the password alone.
	operator.Contains(t, "unlocked to itself", agents["unlocked"].must(t, "curl -sS -m 2 -o /dev/null -w %{http_code} http://127.0.0.1:8703/global/health"), "401")
	operator.Contains(t, "kernel log", operator.Must(t, "dmesg"), "opencode-locked-blocked: IN= OUT=lo")

	operator.Same(t, "root reaches the metadata address", operator.Sh(t, fetch(metadata, 80)), "hello")
	agents["locked"].refused(t, fetch(metadata, 80), "timed out")
	agents["isolated"].refused(t, fetch(metadata, 80), "timed out")
	operator.Same(t, "an instance that names it", agents["unlocked"].must(t, fetch(metadata, 80)), "hello")
}

func bracket(address string) string {
	if strings.Contains(address, ":") {
		return "[" + address + "]"
	}
	return address
}
