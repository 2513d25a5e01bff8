package scenario

import (
	"fmt"
	"strings"
	"testing"
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
	apply(t, restrictedAlpha)
	alpha, beta := enter(t, "alpha"), enter(t, "beta")
	must(t, "nft", "list", "table", "inet", "opencode-alpha")

	for _, a := range []string{allowed4, allowed6} {
		same(t, "alpha reaches "+a, alpha.must(t, fetch(a, 9000)), "hello")
		if received(t, a) == 0 {
			t.Errorf("no packet for %s was counted: the counters do not work", a)
		}
	}
	for _, a := range []string{other4, other6} {
		alpha.refused(t, fetch(a, 9000), "timed out")
		alpha.run(t, "for i in 1 2 3; do echo x > /dev/udp/"+a+"/53; done")
		same(t, "packets that reached "+a, received(t, a), 0)
	}
	for _, a := range []string{other4, other6} {
		same(t, "beta reaches "+a, beta.must(t, fetch(a, 9000)), "hello")
	}
	loggedAtARate(t, alpha)
	unharmed(t)
	livePolicy(t, alpha)
	enforcedBySystemd(t)
}

// loggedAtARate: the kernel logs blocked packets with the instance's prefix, no
// more than the burst and then the rate; the counter misses none.
func loggedAtARate(t *testing.T, alpha *agent) {
	logged := func() int { return strings.Count(must(t, "dmesg"), "opencode-alpha-blocked: ") }
	if logged() == 0 {
		t.Error("nothing was logged with the prefix opencode-alpha-blocked")
	}
	contains(t, "journal of the kernel", must(t, "journalctl", "-k", "--no-pager"), "opencode-alpha-blocked: ")
	before, counted := logged(), status(t, "alpha").Blocked
	alpha.run(t, "for i in $(seq 200); do echo x > /dev/udp/"+other4+"/9; done")
	if n := logged() - before; n > 5+2 {
		t.Errorf("%d lines for 200 packets, want the burst of 5 and hardly more", n)
	}
	if n := status(t, "alpha").Blocked - counted; n < 200 {
		t.Errorf("%d packets counted, want 200", n)
	}
	same(t, "blocked packets of beta", status(t, "beta").Blocked, 0)
}

// unharmed: packets of the kernel itself, which belong to no socket, pass. A
// neighbour that nobody has spoken to yet must be found.
func unharmed(t *testing.T) {
	sh(t, "ip neigh flush dev host0; ip -n world neigh flush dev world0")
	same(t, "a fresh neighbour", enter(t, "alpha").must(t, fetch(allowed6, 9000)), "hello")
	lacks(t, "kernel log", must(t, "dmesg"), "blocked: IN= OUT=host0 SRC=fe80")
	same(t, "root reaches what alpha may not", sh(t, fetch(other6, 9000)+"; "+fetch(other4, 9000)), "hellohello")
}

// livePolicy: a changed policy holds at once, and restarts nothing.
func livePolicy(t *testing.T, alpha *agent) {
	before := pid(t, "alpha")
	apply(t, strings.Replace(restrictedAlpha, "enable = true", "enable = true\non_block = \"reject\"", 1))
	// curl says 7 when it could not connect, 28 when nothing answered in time.
	alpha.refused(t, fetch(other4, 9000), "curl: (7)")
	alpha.refused(t, fetch(other6, 9000), "curl: (7)")
	same(t, "allowed while rejecting", alpha.must(t, fetch(allowed4, 9000)), "hello")

	apply(t, strings.Replace(restrictedAlpha, "192.0.2.0/24", "198.51.100.0/24", 1))
	alpha.refused(t, fetch(allowed4, 9000), "timed out")
	same(t, "newly allowed", alpha.must(t, fetch(other4, 9000)), "hello")

	apply(t, strings.Replace(restrictedAlpha, "enable = true", "enable = false", 1))
	same(t, "without isolation", alpha.must(t, fetch(allowed4, 9000)), "hello")
	same(t, "tables of alpha", command(t, "nft", "list", "table", "inet", "opencode-alpha").code, 1)
	apply(t, restrictedAlpha)
	alpha.refused(t, fetch(other4, 9000), "timed out")
	same(t, "pid of alpha after four policies", pid(t, "alpha"), before)
	nothingToDo(t)
}

// enforcedBySystemd: for a server that listens on loopback systemd enforces the
// policy too, even while nftables is empty; and a start puts the rules back.
func enforcedBySystemd(t *testing.T) {
	must(t, "nft", "flush", "ruleset")
	alpha, before := enter(t, "alpha"), received(t, other4)
	alpha.refused(t, fetch(other4, 9000), "")
	same(t, "packets that reached "+other4+" without nftables", received(t, other4), before)
	same(t, "allowed without nftables", alpha.must(t, fetch(allowed4, 9000)), "hello")
	must(t, "systemctl", "restart", "opencode-alpha")
	must(t, "nft", "list", "table", "inet", "opencode-alpha")
	must(t, "nft", "list", "table", "inet", "opencoded-guard")

	// Without rules that can be trusted nothing starts.
	must(t, "mv", "/var/lib/opencoded/egress.json", "/var/lib/opencoded/moved")
	same(t, "start without compiled rules", command(t, "systemctl", "restart", "opencode-alpha").code, 1)
	contains(t, "journal", must(t, "journalctl", "-u", "opencode-alpha*", "--no-pager", "-n", "20"), "run `opencoded apply`")
	must(t, "opencoded", "apply")
	same(t, "alpha", status(t, "alpha").State, "healthy")
}

// networkInbound: clients of an isolated instance are answered, also one that
// was streaming before isolation was turned on.
func networkInbound(t *testing.T) {
	makeWorld(t)
	open := strings.Replace(restrictedAlpha, "listen.port = 8701", `listen = { address = "0.0.0.0", port = 8701 }`, 1)
	open = strings.Replace(open, `["192.0.2.0/24", "2001:db8:1::/64"]`, `["203.0.113.0/24"]`, 1)
	apply(t, strings.Replace(open, "enable = true", "enable = false", 1))
	before := pid(t, "alpha")
	world := "ip netns exec world curl -sS -m 60 -u opencode:" + password(t, "alpha") + " http://" + host4 + ":8701"

	sh(t, "("+world+"/event -N > /tmp/stream 2>&1 &)")
	eventually(t, "the stream has begun", func() bool { return strings.Contains(read(t, "/tmp/stream"), "server.connected") })
	apply(t, open)
	same(t, "pid of alpha", pid(t, "alpha"), before)
	a := enter(t, "alpha") // makes a session, of which the stream tells
	eventually(t, "the stream goes on", func() bool { return strings.Contains(read(t, "/tmp/stream"), a.Session()) })
	contains(t, "a new client", sh(t, world+"/global/health"), `"healthy":true`)
	a.refused(t, fetch(allowed4, 9000), "timed out")
	contains(t, "status", must(t, "opencoded", "status"), "alpha: listens beyond loopback: egress is restricted by nftables alone")
	lacks(t, "unit", read(t, "/etc/systemd/system/opencode-alpha.service"), "IPAddressDeny")
}

// networkGuard: no instance reaches another's port on any address of the host, a
// locked one not its own, none the cloud's metadata; other local servers stay
// reachable. Isolated or not makes no difference.
func networkGuard(t *testing.T) {
	makeWorld(t)
	serve(t, "world", "web 0.0.0.0:80")
	serve(t, "", "web 127.0.0.1:9100 [::1]:9100")
	apply(t, `
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
		same(t, from+" reaches an ordinary local server", a.must(t, fetch("127.0.0.1", 9100)), "hello")
		same(t, from+" reaches it over IPv6", a.must(t, fetch("::1", 9100)), "hello")
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
	contains(t, "unlocked to itself", agents["unlocked"].must(t, "curl -sS -m 2 -o /dev/null -w %{http_code} http://127.0.0.1:8703/global/health"), "401")
	contains(t, "kernel log", must(t, "dmesg"), "opencode-locked-blocked: IN= OUT=lo")

	same(t, "root reaches the metadata address", sh(t, fetch(metadata, 80)), "hello")
	agents["locked"].refused(t, fetch(metadata, 80), "timed out")
	agents["isolated"].refused(t, fetch(metadata, 80), "timed out")
	same(t, "an instance that names it", agents["unlocked"].must(t, fetch(metadata, 80)), "hello")
}

func bracket(address string) string {
	if strings.Contains(address, ":") {
		return "[" + address + "]"
	}
	return address
}
