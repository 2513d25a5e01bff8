package scenario

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/opencoded/opencoded/tests/operator"
)

// The world beyond the host: a network namespace of the test's own, joined by a
// pair of virtual Ethernet devices, with addresses from the ranges that are
// reserved for documentation. It counts what reaches each of its addresses.

// Addresses: the host has .1, the world .2.
const (
	allowed4 = "192.0.2.2"
	other4   = "198.51.100.2"
	allowed6 = "2001:db8:1::2"
	other6   = "2001:db8:2::2"
	metadata = "169.254.169.254"
	host4    = "192.0.2.1"
	host6    = "2001:db8:1::1"
)

func makeWorld(t *testing.T) {
	t.Helper()
	operator.Sh(t, `
ip netns add world
ip link add host0 type veth peer name world0 netns world
for a in 192.0.2.1/24 198.51.100.1/24 169.254.169.1/24; do ip addr add $a dev host0; done
for a in 192.0.2.2/24 198.51.100.2/24 169.254.169.254/24; do ip -n world addr add $a dev world0; done
for n in 1 2; do
	ip addr add 2001:db8:$n::1/64 dev host0 nodad
	ip -n world addr add 2001:db8:$n::2/64 dev world0 nodad
done
ip link set host0 up
ip -n world link set lo up
ip -n world link set world0 up
ip netns exec world nft -f - <<EOF
table inet count {
	set v4 { type ipv4_addr; flags dynamic; counter; }
	set v6 { type ipv6_addr; flags dynamic; counter; }
	set flows4 { type ipv4_addr . inet_proto . inet_service; flags dynamic; counter; }
	set flows6 { type ipv6_addr . inet_proto . inet_service; flags dynamic; counter; }
	set pings4 { type ipv4_addr; flags dynamic; counter; }
	set pings6 { type ipv6_addr; flags dynamic; counter; }
	chain wire {
		type filter hook prerouting priority raw;
		icmp type echo-request add @pings4 { ip daddr }
		icmpv6 type echo-request add @pings6 { ip6 daddr }
		meta l4proto { 1, 2, 58 } accept # ICMP, IGMP, ICMPv6: not every system names them
		add @flows4 { ip daddr . meta l4proto . th dport }
		add @flows6 { ip6 daddr . meta l4proto . th dport }
	}
	chain in {
		type filter hook input priority filter;
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		add @v4 { ip daddr }
		add @v6 { ip6 daddr }
	}
}
EOF`)
}

// received is how many packets reached an address of the world.
func received(t *testing.T, address string) int {
	t.Helper()
	set := "v4"
	if strings.Contains(address, ":") {
		set = "v6"
	}
	for l := range strings.SplitSeq(operator.Sh(t, "ip netns exec world nft list set inet count "+set+" | tr ',{}' '\\n'"), "\n") {
		f := strings.Fields(l)
		if len(f) >= 4 && f[0] == address && f[1] == "counter" {
			n, err := strconv.Atoi(f[3])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// roleVariable makes the test binary play a server instead of running tests.
const roleVariable = "OPENCODED_SCENARIO_ROLE"

// play serves until it is killed. Roles: "web ADDRESS…" answers HTTP with
// "hello", on a Unix socket too ("/PATH" or "@NAME"), "dns ADDRESS ANSWER" answers
// every question for an IPv4 address, "model ADDRESS" is a language model that wants
// to run what it is asked to, "probe ADDRESS" does what it is told by whoever listens
// there.
func play(role string) error {
	f := strings.Fields(role)
	switch f[0] {
	case "dns":
		return serveDNS(f[1], net.ParseIP(f[2]).To4())
	case "probe":
		return playProbe(f[1])
	case "model":
		return serveModel(f[1])
	}
	failed := make(chan error)
	for _, a := range f[1:] {
		network := "tcp"
		if strings.HasPrefix(a, "@") || strings.HasPrefix(a, "/") {
			network = "unix"
		}
		l, err := net.Listen(network, a)
		if err != nil {
			return err
		}
		go func() { failed <- http.Serve(l, http.HandlerFunc(hello)) }()
	}
	fmt.Println("ready")
	return <-failed
}

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

func serveDNS(address string, answer net.IP) error {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	buffer := make([]byte, 512)
	for {
		n, from, err := c.ReadFrom(buffer)
		if err != nil {
			return err
		}
		var m dnsmessage.Message
		if m.Unpack(buffer[:n]) != nil || len(m.Questions) == 0 {
			continue
		}
		m.Response, m.Additionals = true, nil
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: [4]byte(answer)},
			}}
		}
		if out, err := m.Pack(); err == nil {
			_, _ = c.WriteTo(out, from)
		}
	}
}

// serve plays a role in the background, in the network namespace of the world or
// ("") of the host, until the scenario ends.
func serve(t *testing.T, namespace, role string) {
	t.Helper()
	args := []string{os.Args[0]}
	if namespace != "" {
		args = append([]string{"ip", "netns", "exec", namespace}, args...)
	}
	c := exec.Command(args[0], args[1:]...)
	c.Env = append(os.Environ(), roleVariable+"="+role)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatalf("%s did not get ready: %v", role, err)
	}
}

// fetch is a command that prints what a web server answers. It gives up after
// two seconds, with exit code 28, when nothing answers at all.
func fetch(address string, port int) string {
	return "curl -sS -m 2 http://" + net.JoinHostPort(address, strconv.Itoa(port)) + "/"
}
