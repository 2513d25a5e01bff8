package scenario

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// What is to become of a packet that an instance sends.
type fate string

const (
	passes  fate = "passes"    // the allowlist names its destination
	blocked fate = "blocked"   // it arrives before isolation, and never while it lasts
	nowhere fate = "nowhere"   // it arrives in no state
	unborn  fate = "no socket" // the sandbox gives out no such socket
)

// traffic is what is sent from inside, and its fate. Each kind that is blocked is
// allowed elsewhere, and every row arrives while isolation is off: a probe that is
// broken fails there.
var traffic = []struct {
	name, kind, to string
	fate           fate
	device         string
}{
	{"TCP", "tcp", "192.0.2.2:9000", passes, ""},
	{"TCP", "tcp", "198.51.100.2:9000", blocked, ""},
	{"TCP over IPv6", "tcp", "[2001:db8:1::2]:9000", passes, ""},
	{"TCP over IPv6", "tcp", "[2001:db8:2::2]:9000", blocked, ""},
	{"TCP with data in the first packet", "fast open", "192.0.2.2:9001", passes, ""},
	{"TCP with data in the first packet", "fast open", "198.51.100.2:9001", blocked, ""},
	{"Multipath TCP", "mptcp", "192.0.2.2:9002", passes, ""},
	{"Multipath TCP", "mptcp", "198.51.100.2:9002", blocked, ""},
	{"Multipath TCP over IPv6", "mptcp", "[2001:db8:2::2]:9002", blocked, ""},
	{"IPv4 through an IPv6 socket", "tcp", "[::ffff:192.0.2.2]:9003", passes, ""},
	{"IPv4 through an IPv6 socket", "tcp", "[::ffff:198.51.100.2]:9003", blocked, ""},
	{"TCP to where only the default route leads", "tcp", "203.0.113.200:9000", blocked, ""},

	{"UDP", "udp", "192.0.2.2:9000", passes, ""},
	{"UDP", "udp", "198.51.100.2:9000", blocked, ""},
	{"UDP over IPv6", "udp", "[2001:db8:1::2]:9000", passes, ""},
	{"UDP over IPv6", "udp", "[2001:db8:2::2]:9000", blocked, ""},
	{"UDP without a connection", "unconnected", "192.0.2.2:9004", passes, ""},
	{"UDP without a connection", "unconnected", "198.51.100.2:9004", blocked, ""},
	{"UDP in fragments", "fragments", "192.0.2.2:9005", passes, ""},
	{"UDP in fragments", "fragments", "198.51.100.2:9005", blocked, ""},
	{"UDP over IPv6 in fragments", "fragments", "[2001:db8:2::2]:9005", blocked, ""},
	{"IPv4 datagram through an IPv6 socket", "udp", "[::ffff:192.0.2.2]:9003", passes, ""},
	{"IPv4 datagram through an IPv6 socket", "udp", "[::ffff:198.51.100.2]:9003", blocked, ""},
	{"UDP-Lite", "udp-lite", "192.0.2.2:9000", passes, ""},
	{"UDP-Lite", "udp-lite", "198.51.100.2:9000", blocked, ""},
	{"SCTP", "sctp", "192.0.2.2:9000", passes, ""},
	{"SCTP", "sctp", "198.51.100.2:9000", blocked, ""},
	{"DCCP", "dccp", "192.0.2.2:9000", passes, ""},
	{"DCCP", "dccp", "198.51.100.2:9000", blocked, ""},

	{"QUIC", "quic", "192.0.2.2:443", passes, ""},
	{"QUIC", "quic", "198.51.100.2:443", blocked, ""},
	{"QUIC over IPv6", "quic", "[2001:db8:1::2]:443", passes, ""},
	{"QUIC over IPv6", "quic", "[2001:db8:2::2]:443", blocked, ""},
	{"DNS to any server", "dns", "192.0.2.2:53", passes, ""},
	{"DNS to any server", "dns", "198.51.100.2:53", blocked, ""},
	{"DNS to any server over IPv6", "dns", "[2001:db8:1::2]:53", passes, ""},
	{"DNS to any server over IPv6", "dns", "[2001:db8:2::2]:53", blocked, ""},
	{"DNS to any server over TCP", "dns over tcp", "192.0.2.2:53", passes, ""},
	{"DNS to any server over TCP", "dns over tcp", "198.51.100.2:53", blocked, ""},
	{"DNS to any server over TCP and IPv6", "dns over tcp", "[2001:db8:2::2]:53", blocked, ""},

	{"ICMP echo", "ping", "192.0.2.2:0", passes, ""},
	{"ICMP echo", "ping", "198.51.100.2:0", blocked, ""},
	{"ICMPv6 echo", "ping", "[2001:db8:1::2]:0", passes, ""},
	{"ICMPv6 echo", "ping", "[2001:db8:2::2]:0", blocked, ""},

	{"multicast (LLMNR)", "udp", "224.0.0.252:5355", passes, ""},
	{"multicast (mDNS)", "udp", "224.0.0.251:5353", blocked, ""},
	{"multicast (SSDP)", "unconnected", "239.255.255.250:1900", blocked, ""},
	{"multicast over IPv6 (LLMNR)", "udp", "[ff02::1:3%host0]:5355", passes, ""},
	{"multicast over IPv6 (mDNS)", "udp", "[ff02::fb%host0]:5353", blocked, ""},
	{"all nodes of the link", "ping", "[ff02::1%host0]:0", blocked, ""},
	{"broadcast of an allowed network", "udp", "192.0.2.255:9000", passes, ""},
	{"broadcast of another network", "udp", "198.51.100.255:9000", blocked, ""},
	{"broadcast to everybody (DHCP)", "udp", "255.255.255.255:67", blocked, ""},
	{"TCP to a link-local address", "tcp", "[fe80::3%host0]:9000", passes, ""},
	{"TCP to a link-local address", "tcp", "[fe80::2%host0]:9000", blocked, ""},
	{"UDP to a link-local address", "udp", "[fe80::3%host0]:9000", passes, ""},
	{"UDP to a link-local address", "udp", "[fe80::2%host0]:9000", blocked, ""},

	// Loopback is open, and this host forwards: no way around by the two together.
	{"UDP out of the loopback device", "udp", "198.51.100.2:9", nowhere, "lo"},
	{"UDP over IPv6 out of the loopback device", "udp", "[2001:db8:2::2]:9", nowhere, "lo"},

	{"raw ICMP", "raw", "192.0.2.77:0", unborn, ""},
	{"raw ICMPv6", "raw", "[2001:db8:1::77]:0", unborn, ""},
	{"Ethernet", "packet", "192.0.2.2:0", unborn, ""},
	{"frames past the kernel", "xdp", "192.0.2.2:0", unborn, ""},
	{"the hypervisor", "vsock", "192.0.2.2:0", unborn, ""},
}

// settled is the port for settle alone.
const settled = 7

// echoing are the addresses of the world, and the ports where they answer.
var (
	echoing      = []string{allowed4, other4, allowed6, other6, "fe80::2%world0", "fe80::3%world0"}
	echoingPorts = []uint16{settled, 53, 443, 9000, 9001, 9002, 9003, 9004, 9005}
)

// The servers of filtered and bare have the same policy. For filtered, on
// loopback, systemd enforces it too; bare has nftables alone.
const trafficInventory = `
version = 1
[host]
egress_layout = "LAYOUT"
[defaults.network_isolation]
enable = ENABLE
outbound_allow_cidrs = ["192.0.2.0/24", "2001:db8:1::/64", "224.0.0.252", "ff02::1:3", "fe80::3"]
[instances.filtered]
directory = "/srv/filtered"
listen.port = 8701
[instances.bare]
directory = "/srv/bare"
listen = { address = "::", port = 8702 }
`

func trafficPolicy(layout string, isolated bool) string {
	return strings.NewReplacer("LAYOUT", layout, "ENABLE", fmt.Sprint(isolated)).Replace(trafficInventory)
}

// everyKindOfTraffic: whatever an instance sends, the allowlist decides, in both
// layouts of the tables and while systemd alone enforces it. What belongs to no
// instance is left alone. Decided by what arrives at the world's end of the link.
func everyKindOfTraffic(t *testing.T) {
	makeWorld(t)
	makeWiderWorld(t)
	installProbe(t)
	operator.Apply(t, trafficPolicy("auto", false))
	filtered, bare := plant(t, enter(t, "filtered")), plant(t, enter(t, "bare"))
	bare.must(t, order{Do: "open", Socket: "datagrams", Kind: "udp", To: other4 + ":9000"}, "open")
	bare.must(t, order{Do: "open", Socket: "stream", Kind: "tcp", To: other4 + ":9000", Await: true}, "open")
	sendAll(t, bare, "not isolated", false)
	sendAll(t, filtered, "not isolated", false)
	opened(t, bare, "not isolated", true)

	for _, layout := range []string{"per-instance", "shared"} {
		operator.Apply(t, trafficPolicy(layout, true))
		opened(t, bare, layout, false)
		sendAll(t, bare, "nftables, "+layout, true)
		sendAll(t, filtered, "nftables and systemd, "+layout, true)
		withoutInstance(t, layout)
	}
	operator.Must(t, "nft", "flush", "ruleset")
	sendAll(t, filtered, "systemd alone", true)
}

// makeWiderWorld adds what only some kinds of traffic need: link-local addresses,
// a default route, a namespace behind the host, servers.
func makeWiderWorld(t *testing.T) {
	t.Helper()
	operator.Sh(t, `
for a in 2 3; do ip -n world addr add fe80::$a/64 dev world0 nodad; done
ip addr add fe80::1/64 dev host0 nodad
ip route add default via 192.0.2.2
ip netns add beyond
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
sysctl -qw net.ipv4.tcp_fastopen=5 # data in the first packet without a cookie from before
ping='net.ipv4.ping_group_range=0 2147483647'
sysctl -qw "$ping"; for n in world beyond; do ip netns exec $n sysctl -qw "$ping"; done
ip link add host1 type veth peer name beyond0 netns beyond
ip addr add 203.0.113.1/25 dev host1
ip -n beyond addr add 203.0.113.2/25 dev beyond0
ip addr add 2001:db8:3::1/64 dev host1 nodad
ip -n beyond addr add 2001:db8:3::2/64 dev beyond0 nodad
ip link set host1 up
ip -n beyond link set beyond0 up
ip -n beyond route add default via 203.0.113.1
ip -n beyond route add default via 2001:db8:3::1
ip -n world route add 203.0.113.0/25 via 192.0.2.1
ip -n world route add 2001:db8:3::/64 via 2001:db8:1::1`)
	serveEcho(t)
}

// serveEcho answers at the world's addresses, those that it has.
func serveEcho(t *testing.T) {
	t.Helper()
	there := operator.Must(t, "ip", "-n", "world", "addr")
	for _, port := range echoingPorts {
		listen(t, fmt.Sprintf("[::]:%d", port), echo)
		for _, a := range echoing {
			if plain, _, _ := strings.Cut(a, "%"); strings.Contains(there, " "+plain+"/") {
				echoDatagrams(t, at(a, port))
			}
		}
	}
}

// answers reports whether somebody answers a row at its destination.
func answers(k kind, to netip.AddrPort) bool {
	if k.oneway {
		return false
	}
	for _, a := range echoing {
		if netip.MustParseAddr(a).WithZone("") != to.Addr().Unmap().WithZone("") {
			continue
		}
		for _, port := range append(echoingPorts, 0) {
			if port == to.Port() {
				return true
			}
		}
	}
	return false
}

// sendAll sends every row of traffic, and holds what arrives against its fate.
func sendAll(t *testing.T, p *probe, state string, isolated bool) {
	t.Helper()
	before, outcomes, awaited := arrivals(t), make([]outcome, len(traffic)), make([]bool, len(traffic))
	for i, row := range traffic {
		k, to := kinds[row.kind], netip.MustParseAddrPort(row.to)
		awaited[i] = row.fate.arrives(isolated) && answers(k, to)
		outcomes[i] = p.do(t, order{Do: "try", Kind: row.kind, To: row.to, Device: row.device, Await: awaited[i]})
	}
	settle(t, p)
	after, log, seen := arrivals(t), &strings.Builder{}, map[string]bool{}
	for i, row := range traffic {
		k, out := kinds[row.kind], outcomes[i]
		key := arrival(k, netip.MustParseAddrPort(row.to))
		if seen[key] && k.family == 0 {
			t.Fatalf("two rows are counted as %s: give one another port", key)
		}
		seen[key] = true
		n := after[key] - before[key]
		fmt.Fprintf(log, "%-42s %-26s %-10s %3d arrived, %s\n", row.name, row.to, row.fate, n, out.Said)
		switch {
		case row.fate == unborn || k.optional && out.Refused:
			// Not every kernel has every protocol; what cannot be sent is not let through.
			if !out.Refused || n != 0 {
				t.Errorf("%s: %s of %s: the sandbox has given out a socket: %d packets arrived: %s", state, row.name, p.name, n, out.Said)
			}
		case awaited[i] && out.Said != "answered" || row.fate.arrives(isolated) != (n > 0):
			t.Errorf("%s: %s of %s to %s (%s): %d packets arrived: %s", state, row.name, p.name, row.to, row.fate, n, out.Said)
		}
	}
	t.Logf("%s, %s:\n%s", state, p.name, log)
}

func (f fate) arrives(isolated bool) bool { return f == passes || f == blocked && !isolated }

// settle waits until what a probe sent before has arrived: an answer has come back
// over both protocols and families, behind it.
func settle(t *testing.T, p *probe) {
	t.Helper()
	for _, kind := range []string{"udp", "tcp"} {
		for _, a := range []string{allowed4, allowed6} {
			p.must(t, order{Do: "try", Kind: kind, To: at(a, settled), Await: true}, "answered")
		}
	}
}

func at(address string, port uint16) string {
	return netip.AddrPortFrom(netip.MustParseAddr(address), port).String()
}

// opened: sockets that were connected before isolation began.
func opened(t *testing.T, p *probe, state string, arrives bool) {
	t.Helper()
	for socket, kind := range map[string]string{"datagrams": "udp", "stream": "tcp"} {
		before := arrivals(t)
		p.do(t, order{Do: "send", Socket: socket, Kind: kind, Await: arrives})
		settle(t, p)
		key := arrival(kinds[kind], netip.MustParseAddrPort(other4+":9000"))
		if n := arrivals(t)[key] - before[key]; arrives != (n > 0) {
			t.Errorf("%s: %d packets of %s, connected before, arrived", state, n, socket)
		}
	}
}

// withoutInstance: what no instance sends is untouched while instances are
// isolated: answers to clients, what the kernel says by itself, what it forwards.
func withoutInstance(t *testing.T, layout string) {
	t.Helper()
	try := func(what, namespace, kind, to, said string) {
		t.Helper()
		within(t, namespace, func() {
			if out := (prober{}).perform(order{Do: "try", Kind: kind, To: to, Await: true}); out.Said != said {
				t.Errorf("%s: %s: %s to %s: %q, want %q", layout, what, kind, to, out.Said, said)
			}
		})
	}
	operator.Sh(t, "ip neigh flush dev host0; ip -n world neigh flush dev world0")
	for _, a := range []string{"192.0.2.1", "198.51.100.1", "2001:db8:1::1", "2001:db8:2::1"} {
		try("the host answers", "world", "ping", at(a, 0), "answered")
		try("a closed port is answered with a reset", "world", "tcp", at(a, 9), "connection refused")
		try("a closed port is answered with an ICMP error", "world", "udp", at(a, 9), "connection refused")
		// From an address that the instance may not connect to.
		from := map[bool]string{true: other4, false: other6}[netip.MustParseAddr(a).Is4()]
		health := "ip netns exec world curl -sS -g -m 20 --interface " + from +
			" -u opencode:" + password(t, "bare") + " http://" + at(a, 8702) + "/global/health"
		operator.Contains(t, layout+": what a client of bare gets", operator.Sh(t, health), `"healthy":true`)
	}
	for _, kind := range []string{"tcp", "udp", "ping"} {
		port := map[bool]uint16{false: 9000}[kind == "ping"]
		for _, a := range []string{allowed4, allowed6} {
			try("the host forwards", "beyond", kind, at(a, port), "answered")
		}
	}
	operator.Sh(t, "ip neigh flush dev host0")
	if out := (prober{}).perform(order{Do: "try", Kind: "tcp", To: "[" + other6 + "]:9000", Await: true}); out.Said != "answered" {
		t.Errorf("%s: root to a fresh neighbour: %s", layout, out.Said)
	}
}
