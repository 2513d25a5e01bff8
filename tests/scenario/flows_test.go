package scenario

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/opencoded/opencoded/tests/operator"
)

// sink takes what comes, and counts the bytes that have arrived; source sends
// without end, and counts those that were acknowledged. The kernel counts, so that
// no byte is on its way to the counter. Each is for one connection.
func sink(t *testing.T, address string) (received func() int64) {
	var info kernelCount
	listen(t, address, func(c net.Conn) {
		info.of(t, c)
		io.Copy(io.Discard, c)
	})
	return func() int64 { return int64(info.read(t).Bytes_received) }
}

func source(t *testing.T, address string) (acknowledged func() int64) {
	var info kernelCount
	listen(t, address, func(c net.Conn) {
		info.of(t, c)
		for chunk := make([]byte, 1<<16); ; {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	})
	return func() int64 { return int64(info.read(t).Bytes_acked) }
}

// kernelCount is what the kernel counts of a connection, its end included.
type kernelCount struct{ socket atomic.Pointer[os.File] }

func (k *kernelCount) of(t *testing.T, c net.Conn) {
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Error(err)
		return
	}
	t.Cleanup(func() { f.Close() })
	if err := control(f, paceSocket); err != nil {
		t.Error(err)
	}
	k.socket.Store(f)
}

func (k *kernelCount) read(t *testing.T) (info unix.TCPInfo) {
	t.Helper()
	f := k.socket.Load()
	if f == nil {
		return info // nobody has connected
	}
	if err := control(f, func(fd int) error {
		i, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			info = *i
		}
		return err
	}); err != nil {
		t.Fatalf("what a connection of the world counts: %v", err)
	}
	return info
}

func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(fd uintptr) { err = do(int(fd)) })
	return errors.Join(failed, err)
}

// paceSocket keeps a connection to a few megabytes a second: other tests need the
// processors too.
func paceSocket(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, 4<<20)
}

// The server of bare listens beyond loopback: nftables alone holds it.
const flowsInventory = `
version = 1
[host]
egress_layout = "LAYOUT"
[defaults]
network_isolation = { enable = true, outbound_allow_cidrs = [ALLOW] }
sandbox.unix_sockets.allow = ["/run/broker"]
[instances.filtered]
directory = "/srv/filtered"
listen.port = 8701
[instances.bare]
directory = "/srv/bare"
listen = { address = "0.0.0.0", port = 8702 }
`

const (
	wide   = `"192.0.2.0/24", "2001:db8:1::/64", "198.51.100.0/24", "2001:db8:2::/64"`
	narrow = `"192.0.2.0/24", "2001:db8:1::/64"`
)

func flowsPolicy(layout, allow string) string {
	return strings.NewReplacer("LAYOUT", layout, "ALLOW", allow).Replace(flowsInventory)
}

// openFlows: a narrowed allowlist cuts what is under way, at once and in both
// directions. Where nftables stands alone the connections are reset; where systemd
// filters too, they stand, and go on when the policy is widened again. Neither
// restarts the server.
func openFlows(t *testing.T) {
	makeWorld(t)
	serveEcho(t)
	installProbe(t)
	operator.Sh(t, "mkdir /run/broker")
	operator.Apply(t, flowsPolicy("per-instance", wide))
	filtered, bare := plant(t, enter(t, "filtered")), plant(t, enter(t, "bare"))
	pids := operator.PID(t, "filtered") + operator.PID(t, "bare")
	standing := begin(t, filtered, 9100)
	for n, layout := range []string{"per-instance", "shared"} {
		ending := begin(t, bare, uint16(9200+n))
		goOn(t, standing, ending)
		operator.Apply(t, flowsPolicy(layout, narrow))
		cut(t, filtered, standing, func() { triesAgain(t, "filtered") })
		cut(t, bare, ending, func() { hasEnded(t, bare) })
		operator.Apply(t, flowsPolicy(layout, wide))
	}
	goOn(t, standing)
	closedWithRest(t, filtered, bare)
	for n, p := range []*probe{filtered, bare} {
		passedSockets(t, p, at(other4, uint16(9400+n)))
	}
	operator.Same(t, "pids", operator.PID(t, "filtered")+operator.PID(t, "bare"), pids)
}

// flow is one of bytes, and how many have made it.
type flow struct {
	name  string
	count func() int64
}

// begin starts an upload and a download without end.
func begin(t *testing.T, p *probe, port uint16) []flow {
	t.Helper()
	up, down := at(other4, port), at(other6, port)
	flows := []flow{{"upload of " + p.name, sink(t, up)}, {"download of " + p.name, source(t, down)}}
	p.must(t, order{Do: "open", Socket: "up", Kind: "tcp", To: up, Await: true}, "open")
	p.must(t, order{Do: "open", Socket: "down", Kind: "tcp", To: down, Await: true}, "open")
	p.must(t, order{Do: "upload", Socket: "up"}, "begun")
	p.must(t, order{Do: "download", Socket: "down"}, "begun")
	return flows
}

// goOn waits until each flow has moved another quarter of a megabyte.
func goOn(t *testing.T, flows ...[]flow) {
	t.Helper()
	for _, f := range slices.Concat(flows...) {
		before := f.count()
		operator.Eventually(t, f.name+" goes on", func() bool { return f.count() > before+1<<18 })
	}
}

// cut: not a byte more makes it, up to when the kernel has surely tried, and other
// packets have made the round trip before and behind.
func cut(t *testing.T, p *probe, flows []flow, tried func()) {
	t.Helper()
	settle(t, p)
	before := make([]int64, len(flows))
	for i, f := range flows {
		before[i] = f.count()
	}
	tried()
	settle(t, p)
	for i, f := range flows {
		if n := f.count() - before[i]; n != 0 {
			t.Errorf("%d bytes of the running %s after the policy narrowed", n, f.name)
		}
	}
}

// triesAgain waits until the kernel has sent again what was not answered.
func triesAgain(t *testing.T, name string) {
	t.Helper()
	before := operator.Status(t, name).Blocked
	operator.Eventually(t, "packets of "+name+" are blocked", func() bool { return operator.Status(t, name).Blocked >= before+2 })
}

// hasEnded waits until both connections are reset.
func hasEnded(t *testing.T, p *probe) {
	t.Helper()
	for _, socket := range []string{"up", "down"} {
		operator.Eventually(t, socket+" of "+p.name+" is reset", func() bool {
			said := p.do(t, order{Do: "send", Socket: socket, Kind: "tcp"}).Said
			return said == unix.ECONNRESET.Error() || said == unix.EPIPE.Error()
		})
		p.must(t, order{Do: "close", Socket: socket}, "closed")
	}
}

// closedWithRest: what a program has written after the policy narrowed, before it
// closed the connection, does not get out either: from then on the kernel sends,
// and the packets have no owner. It leaves the policy narrow.
func closedWithRest(t *testing.T, probes ...*probe) {
	t.Helper()
	to := func(n int) string { return at(other4, uint16(9300+n)) }
	for n, p := range probes {
		sink(t, to(n))
		p.must(t, order{Do: "open", Socket: "last", Kind: "tcp", To: to(n), Await: true}, "open")
		settle(t, p)
	}
	operator.Apply(t, flowsPolicy("shared", narrow))
	for n, p := range probes {
		key := arrival(kinds["tcp"], netip.MustParseAddrPort(to(n)))
		before := arrivals(t)[key]
		said := p.do(t, order{Do: "fill", Socket: "last"}).Said
		p.must(t, order{Do: "close", Socket: "last"}, "closed")
		operator.Eventually(t, "the kernel has tried the closed connection of "+p.name+" again, or given it up", func() bool {
			left := operator.Must(t, "ss", "-Htanio", "dst", to(n))
			return left == "" || retried.MatchString(left) || arrivals(t)[key] != before
		})
		settle(t, p)
		if n := arrivals(t)[key] - before; n != 0 {
			t.Errorf("%s wrote (%s) and closed after the policy narrowed: %d packets arrived", p.name, said, n)
		}
	}
}

// retried is a timer of ss(8), "(timer:(on,1.2sec,3)", after two retransmissions.
var retried = regexp.MustCompile(`timer:\([^)]*,([2-9]|\d\d+)\)`)
