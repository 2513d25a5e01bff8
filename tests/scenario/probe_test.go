package scenario

import (
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/opencoded/opencoded/tests/operator"
)

// A probe is this test binary inside of an instance. It does what the test tells
// it over a connection on loopback, which no policy closes, and keeps the sockets
// that it opens, so that a policy can change around them.

// order is what the probe is to do.
type order struct {
	Do     string // see [prober.do]
	Socket string // the name of a socket that is kept
	Kind   string // one of kinds
	To     string // ADDRESS:PORT, or the path of a Unix socket
	Device string // the network device that the socket is bound to, if any
	Await  bool   // wait for the connection and for an answer
}

// outcome is how it went.
type outcome struct {
	Refused bool   // there was not even a socket
	Said    string // "answered", "sent", or what the kernel said instead
}

// kind is a kind of traffic that a program without privileges may try to send.
type kind struct {
	socket     int    // SOCK_STREAM, ...
	ipv4, ipv6 int    // the protocol over either
	payload    []byte // nil where send makes it
	family     int    // in place of that of the address
	oneway     bool   // nobody answers it
	optional   bool   // not every kernel has it
}

var (
	tcp     = kind{socket: unix.SOCK_STREAM, ipv4: unix.IPPROTO_TCP, ipv6: unix.IPPROTO_TCP, payload: line}
	udp     = kind{socket: unix.SOCK_DGRAM, ipv4: unix.IPPROTO_UDP, ipv6: unix.IPPROTO_UDP, payload: line}
	line    = []byte("ping\n")
	tcpSize = []byte{0, byte(len(question()))} // stands before a question over TCP
)

var kinds = map[string]kind{
	"tcp":          tcp,
	"fast open":    tcp,
	"mptcp":        {socket: unix.SOCK_STREAM, ipv4: unix.IPPROTO_MPTCP, ipv6: unix.IPPROTO_MPTCP, payload: line, optional: true},
	"dns over tcp": tcp.with(append(tcpSize, question()...)),
	"udp":          udp,
	"unconnected":  udp,
	"fragments":    udp.with(make([]byte, 20_000)),
	"quic":         udp.with(quicInitial()),
	"dns":          udp.with(question()),
	"udp-lite":     rare(unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE),
	"sctp":         rare(unix.SOCK_STREAM, unix.IPPROTO_SCTP),
	"dccp":         rare(sockDCCP, unix.IPPROTO_DCCP),
	"ping":         {socket: unix.SOCK_DGRAM, ipv4: unix.IPPROTO_ICMP, ipv6: unix.IPPROTO_ICMPV6},
	"raw":          {socket: unix.SOCK_RAW, ipv4: unix.IPPROTO_ICMP, ipv6: unix.IPPROTO_ICMPV6},
	"packet":       {socket: unix.SOCK_RAW, family: unix.AF_PACKET},
	"vsock":        {socket: unix.SOCK_STREAM, family: unix.AF_VSOCK},
	"xdp":          {socket: unix.SOCK_RAW, family: unix.AF_XDP},
}

const sockDCCP = 6 // SOCK_DCCP of linux/net.h

func (k kind) with(payload []byte) kind {
	k.payload = payload
	return k
}

func rare(socket, protocol int) kind {
	return kind{socket: socket, ipv4: protocol, ipv6: protocol, payload: line, oneway: true, optional: true}
}

// quicInitial looks like the first datagram of a QUIC connection: long header,
// version 1, two connection ids, padded to 1200 bytes (RFC 9000, 17.2.2).
func quicInitial() []byte {
	d := append([]byte{0xc3, 0, 0, 0, 1, 8}, "12345678"...)
	d = append(d, 8)
	d = append(d, "87654321"...)
	return append(d, make([]byte, 1200-len(d))...)
}

func question() []byte {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("secret.example.org."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	text, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return text
}

// protocol is what the packets of the kind say in their header on the way to an address.
func (k kind) protocol(to netip.Addr) int {
	p := k.ipv4
	if to.Is6() {
		p = k.ipv6
	}
	if p == unix.IPPROTO_MPTCP {
		return unix.IPPROTO_TCP // an option of it
	}
	return p
}

// probe is the test's end.
type probe struct {
	name string
	conn net.Conn
}

// probeProgram is where instances find the probe.
const probeProgram = "/usr/local/lib/opencoded-probe"

// installProbe copies this program to where instances see it.
func installProbe(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	operator.Must(t, "install", self, probeProgram)
}

// startProbe is the shell command that starts one and leaves it running.
func startProbe(control string) string {
	return roleVariable + "='probe " + control + "' " + probeProgram + " > /dev/null 2>&1 &"
}

// plant starts a probe in a running instance.
func plant(t *testing.T, a *agent) *probe {
	t.Helper()
	l := reporting(t, "127.0.0.1:0")
	a.must(t, startProbe(l.Addr().String()))
	return meet(t, l)
}

// reporting is where probes report.
func reporting(t *testing.T, address string) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// meet waits for a probe, and learns which instance it is in.
func meet(t *testing.T, l *net.TCPListener) *probe {
	t.Helper()
	_ = l.SetDeadline(time.Now().Add(30 * time.Second))
	c, err := l.Accept()
	if err != nil {
		t.Fatalf("no probe has come up: %v", err)
	}
	t.Cleanup(func() { c.Close() }) // which ends it
	var name string
	if err := json.NewDecoder(c).Decode(&name); err != nil {
		t.Fatal(err)
	}
	return &probe{name, c}
}

func (p *probe) do(t *testing.T, o order) outcome {
	t.Helper()
	var out outcome
	if err := json.NewEncoder(p.conn).Encode(o); err != nil {
		t.Fatalf("probe in %s: %v", p.name, err)
	}
	if err := json.NewDecoder(p.conn).Decode(&out); err != nil {
		t.Fatalf("probe in %s, %+v: %v", p.name, o, err)
	}
	return out
}

// must does what has to end in these words.
func (p *probe) must(t *testing.T, o order, said string) {
	t.Helper()
	if out := p.do(t, o); out.Said != said {
		t.Errorf("%s: %s %s %s %s: %q, want %q", p.name, o.Do, o.Socket, o.Kind, o.To, out.Said, said)
	}
}
