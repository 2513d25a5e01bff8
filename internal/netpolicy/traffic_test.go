package netpolicy

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var narrow = Policy{Name: "web", UID: webUID, Port: 8081, Isolated: true, Allow: allow("10.77.0.2/32", "2001:db8:77::2/128")}

func TestEgressTraffic(t *testing.T) {
	w := newWorld(t)
	w.host.ensure(must(Guard([]Policy{narrow})), must(Egress(narrow)))
	// A fresh neighbour: the kernel must be able to ask for it, and is not the instance.
	w.host.run("ip", "-6", "neigh", "flush", "dev", "h0")
	for _, network := range []string{"tcp", "udp"} {
		for _, addr := range []string{"10.77.0.2", "2001:db8:77::2"} {
			if err := w.try(webUID, network, addr); err != nil {
				t.Errorf("%s to allowed %s: %v", network, addr, err)
			}
			if w.reached[addr].Swap(0) != 1 {
				t.Errorf("%s to allowed %s was not counted there", network, addr)
			}
		}
	}
	if c := w.host.blocked("web"); c != (Counter{}) {
		t.Errorf("blocked %v although all was allowed", c)
	}
	for _, addr := range []string{"10.77.0.3", "2001:db8:77::3"} {
		before := w.host.blocked("web")
		if err := exchange(w.host.dial(webUID, "tcp", net.JoinHostPort(addr, farPort), brief)); !isTimeout(err) {
			t.Errorf("tcp to blocked %s: %v", addr, err)
		}
		if err := w.try(webUID, "udp", addr); !errors.Is(err, unix.EPERM) {
			t.Errorf("udp to blocked %s: %v", addr, err)
		}
		after := w.host.blocked("web")
		if after.Packets < before.Packets+2 || after.Bytes <= before.Bytes {
			t.Errorf("%s: counted %v after %v", addr, after, before)
		}
		if n := w.reached[addr].Load(); n != 0 {
			t.Errorf("%d packets at blocked %s", n, addr)
		}
		if err := w.try(0, "tcp", addr); err != nil {
			t.Errorf("another user to %s: %v", addr, err)
		}
	}
	if err := exchangeLocal(t, w); err != nil {
		t.Errorf("a local service: %v", err)
	}
}

// exchangeLocal talks to an ordinary service on loopback.
func exchangeLocal(t *testing.T, w *world) error {
	l := w.host.listen(0, "tcp", "127.0.0.1:0")
	go echo(l, &atomic.Int64{})
	return exchange(w.host.dial(webUID, "tcp", l.Addr().String(), patient))
}

// Rejected connections fail at once, over v6 too, and with which error.
func TestReject(t *testing.T) {
	w := newWorld(t)
	p := narrow
	p.OnBlock = Reject
	w.host.ensure(must(Guard([]Policy{p})), must(Egress(p)))
	for _, addr := range []string{"10.77.0.3", "2001:db8:77::3"} {
		for network, want := range map[string]error{"tcp": unix.ECONNREFUSED, "udp": unix.EPERM} {
			start := time.Now()
			if err := w.try(webUID, network, addr); !errors.Is(err, want) || time.Since(start) > 200*time.Millisecond {
				t.Errorf("%s to %s: %v after %v, want %v at once", network, addr, err, time.Since(start), want)
			}
		}
		if n := w.reached[addr].Load(); n != 0 {
			t.Errorf("%d packets at %s", n, addr)
		}
	}
	if c := w.host.blocked("web"); c.Packets != 4 {
		t.Errorf("counted %v, want 4 packets", c)
	}
	if err := w.try(webUID, "tcp", "10.77.0.2"); err != nil {
		t.Error(err)
	}
}

// A narrowed policy cuts a flow that the instance opened, at once, whatever happens to new ones; and what its socket
// holds goes nowhere, not even when the program closes it, after which its packets have no owner.
func TestNarrowedPolicyCutsFlow(t *testing.T) {
	w := newWorld(t)
	var arrived atomic.Int64
	sink := w.far.listen(0, "tcp", "10.77.0.2:7001")
	go func() {
		for {
			c, err := sink.Accept()
			if err != nil {
				return
			}
			go func() { n, _ := io.Copy(io.Discard, c); arrived.Add(n) }()
		}
	}()
	for _, onBlock := range []OnBlock{Drop, Reject} {
		p := narrow
		p.OnBlock = onBlock
		w.host.ensure(must(Guard([]Policy{p})), must(Egress(p)))
		open := func(address string) net.Conn {
			c, err := w.host.dial(webUID, "tcp", address, patient)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		idle, closed := open("10.77.0.2:"+farPort), open(sink.Addr().String())
		defer idle.Close()
		if err := ping(idle); err != nil {
			t.Fatal(err)
		}
		p.Allow = allow("10.77.0.3/32")
		w.host.ensure(must(Egress(p)))
		if err := ping(idle); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%s: the open flow: %v", onBlock, err)
		}
		_, _ = closed.Write(make([]byte, 1<<16))
		closed.Close()
		_, port, _ := net.SplitHostPort(closed.LocalAddr().String())
		deadline := time.Now().Add(10 * time.Second)
		for strings.Contains(w.host.run("ss", "-Htan"), ":"+port+" ") && arrived.Load() == 0 {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the kernel has kept the closed connection", onBlock)
			}
		}
		if n := arrived.Load(); n != 0 {
			t.Errorf("%s: %d bytes arrived that were written after the policy narrowed", onBlock, n)
		}
	}
}

// Inbound is never affected: neither a new client nor one that was streaming before the first egress table came.
func TestInboundClients(t *testing.T) {
	w := newWorld(t)
	open := narrow
	open.Isolated = false
	w.host.ensure(must(Guard([]Policy{open})))
	for _, addr := range []string{"10.77.0.1:8081", "[2001:db8:77::1]:8081"} {
		go echo(w.host.listen(webUID, "tcp", addr), &atomic.Int64{})
		streaming, err := w.far.dial(0, "tcp", addr, patient)
		if err != nil {
			t.Fatal(err)
		}
		defer streaming.Close()
		if err := ping(streaming); err != nil {
			t.Fatal(err)
		}
		nothing := narrow
		nothing.Allow = nil
		w.host.ensure(must(Guard([]Policy{nothing})), must(Egress(nothing)))
		if err := ping(streaming); err != nil {
			t.Errorf("%s: a client that was streaming before: %v", addr, err)
		}
		if err := exchange(w.far.dial(0, "tcp", addr, patient)); err != nil {
			t.Errorf("%s: a new client: %v", addr, err)
		}
		if err := w.host.kernel.Delete(t.Context(), EgressTable("web")); err != nil {
			t.Fatal(err)
		}
	}
	if c := w.host.blocked("web"); c != (Counter{}) {
		t.Errorf("answers were blocked: %v", c)
	}
}

// hammer sends datagrams as fast as it can until stop, counting those that the kernel refused to send.
func hammer(c net.Conn, stop *atomic.Bool, sent, refused *atomic.Int64) {
	for !stop.Load() {
		if _, err := c.Write([]byte("x")); errors.Is(err, unix.EPERM) {
			refused.Add(1)
		} else if err == nil {
			sent.Add(1)
		}
	}
}

// Changing a policy is atomic and loses no count: while two tables are changed 200 times not one packet gets to a
// blocked or a metadata address, not one to an allowed address is refused, and the counters know exactly what the
// senders know.
func TestChangeUnderTraffic(t *testing.T) {
	w := newWorld(t)
	other := narrow
	other.Allow = append(allow("10.77.0.0/31", "10.77.0.4/30", "192.0.2.0/24"), narrow.Allow...)
	other.LogRate = Rate{1, "hour"}
	w.host.ensure(must(Guard([]Policy{narrow})), must(Egress(narrow)))

	var stop atomic.Bool
	var sent, refused [3]atomic.Int64
	addrs := []string{"10.77.0.2", "10.77.0.3", "169.254.169.254"} // allowed, blocked, guarded
	var senders sync.WaitGroup
	for i, addr := range addrs {
		c, err := w.host.dial(webUID, "udp", net.JoinHostPort(addr, farPort), patient)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		senders.Go(func() { hammer(c, &stop, &sent[i], &refused[i]) })
	}
	for i := range 200 {
		if i%2 == 0 {
			w.host.ensure(must(Guard([]Policy{narrow, api})), must(Egress(other)))
		} else {
			w.host.ensure(must(Guard([]Policy{narrow})), must(Egress(narrow)))
		}
	}
	stop.Store(true)
	senders.Wait()
	if n := refused[0].Load(); n != 0 {
		t.Errorf("%d packets to the allowed address were refused", n)
	}
	for i, addr := range addrs[1:] {
		if out, in := sent[i+1].Load(), w.reached[addr].Load(); out != 0 || in != 0 {
			t.Errorf("%d packets were sent to %s, %d arrived", out, addr, in)
		}
	}
	total := refused[1].Load() + refused[2].Load()
	if c := w.host.blocked("web"); c.Packets != uint64(total) {
		t.Errorf("counted %d, the senders %d", c.Packets, total)
	}
	t.Logf("200 changes of two tables under %d refused and %d allowed packets", total, sent[0].Load())
}

func TestChangesKeepCounters(t *testing.T) {
	w := newWorld(t)
	tables := []Table{must(Guard([]Policy{narrow})), must(Egress(narrow))}
	w.host.ensure(tables...)
	for range 3 {
		_ = w.try(webUID, "udp", "10.77.0.3")
		_ = w.try(webUID, "udp", "169.254.169.254")
	}
	want := w.host.blocked("web")
	if want.Packets != 6 {
		t.Fatalf("counted %v, want 6 packets", want)
	}
	other := narrow
	other.Allow, other.LogRate = allow("192.0.2.0/24"), Rate{1, "hour"}
	w.host.ensure(must(Guard([]Policy{narrow, api})), must(Egress(other)))
	w.host.nft("add rule inet opencode-web output accept\nadd table inet opencode-web { flags dormant; }")
	if _, err := w.host.kernel.Ensure(t.Context(), tables...); err != nil {
		t.Fatal(err)
	}
	if got := w.host.blocked("web"); got != want {
		t.Errorf("%v became %v", want, got)
	}
}
