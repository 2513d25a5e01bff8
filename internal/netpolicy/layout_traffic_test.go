package netpolicy

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencoded/opencoded/internal/destination"
)

// rules loads them, in place of what another layout left.
func (w *world) rules(t *testing.T, r Rules) {
	t.Helper()
	tables, err := r.Tables()
	if err != nil {
		t.Fatal(err)
	}
	w.host.ensure(tables...)
	loaded, err := w.host.kernel.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range loaded {
		if !slices.Contains(tableNames(tables), name) {
			if err := w.host.kernel.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// traffic are policies that differ in everything a rule can say.
var traffic = []Policy{
	{Name: "web", UID: webUID, Port: 8081, Isolated: true, OnBlock: Reject,
		Allow: allow("10.77.0.2:7000", "[2001:db8:77::2]:7000/udp", "10.77.0.0/24:7001", "169.254.169.254:7000/udp")},
	{Name: "api", UID: apiUID, Port: 8082, Locked: true, Isolated: true, OnBlock: Reject, NoDNS: true,
		Allow: allow("10.77.0.3", "2001:db8:77::/64", "127.0.0.3:53")},
	{Name: "trial", UID: 62003, Port: 8083, Isolated: true, Report: true, OnBlock: Reject, Allow: allow("10.77.0.2:7000/udp")},
	{Name: "open", UID: 62004, Port: 8084, OnBlock: Reject},
}

// TestDecide: what is said to happen to a packet does, in both layouts.
func TestDecide(t *testing.T) {
	w := newWorld(t)
	for _, port := range []string{"53", "8081", "8082", "9000"} {
		go echo(w.host.listen(0, "tcp", ":"+port), &atomic.Int64{})
	}
	for _, layout := range []Layout{PerInstance, Shared} {
		r := Rules{Layout: layout, Policies: traffic}
		w.rules(t, r)
		before, err := w.host.kernel.Counts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		reported := uint64(0)
		check := func(p Policy, network, addr, port string) {
			to := netip.MustParseAddr(addr)
			packet := Packet{To: to, Port: netip.MustParseAddrPort("0.0.0.0:" + port).Port(), Protocol: destination.Protocol(network),
				Local: to.IsLoopback() || addr == "10.77.0.1"}
			d, err := r.Decide(p.Name, packet)
			if err != nil {
				t.Fatal(err)
			}
			if d.Outcome == Reported {
				reported++
			}
			err = exchange(w.host.dial(int(p.UID), network, net.JoinHostPort(addr, port), patient))
			if (err == nil) != (d.Outcome != Blocked) {
				t.Errorf("%s: %s to %s port %s of %s is said to be %s (%s): %v", layout, network, addr, port, p.Name, d.Outcome, d.Why, err)
			}
		}
		for _, p := range traffic {
			for _, network := range []string{"tcp", "udp"} {
				for _, addr := range farAddrs {
					check(p, network, addr, farPort)
				}
			}
			for _, addr := range []string{"127.0.0.1", "127.0.0.3", "::1", "10.77.0.1"} {
				for _, port := range []string{"53", "8081", "8082", "9000"} {
					check(p, "tcp", addr, port)
				}
			}
		}
		after, err := w.host.kernel.Counts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// A connection is several packets: each is counted.
		if n := after["trial"].Reported.Packets - before["trial"].Reported.Packets; n < reported || reported == 0 {
			t.Errorf("%s: %d packets counted for %d attempts that would have been blocked", layout, n, reported)
		}
	}
}

// TestSwitchOfLayout: while the layout changes back and forth, nothing forbidden
// gets out and nothing allowed is refused.
func TestSwitchOfLayout(t *testing.T) {
	w := newWorld(t)
	policies := slices.Clone(traffic[:2])
	policies[0].OnBlock = Drop
	w.rules(t, Rules{Layout: PerInstance, Policies: policies})

	var stop atomic.Bool
	var sent, refused atomic.Int64
	var senders sync.WaitGroup
	send := func(addr string, failed *atomic.Int64) {
		var c net.Conn
		var err error
		w.host.as(webUID, func() { c, err = net.Dial("udp", net.JoinHostPort(addr, farPort)) })
		if err != nil {
			t.Fatal(err)
		}
		senders.Go(func() {
			defer c.Close()
			for !stop.Load() {
				sent.Add(1)
				if _, err := c.Write([]byte("x")); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	before := w.reached["10.77.0.3"].Load()
	send("2001:db8:77::2", &refused)
	send("10.77.0.3", new(atomic.Int64))
	for n := range 40 {
		w.rules(t, Rules{Layout: []Layout{Shared, PerInstance}[n%2], Policies: policies})
	}
	stop.Store(true)
	senders.Wait()
	if err := w.try(0, "udp", "10.77.0.3"); err != nil { // answered behind whatever was under way to the same socket
		t.Fatal(err)
	}
	if n := w.reached["10.77.0.3"].Load() - before - 1; n != 0 {
		t.Errorf("%d of %d forbidden packets got out", n, sent.Load())
	}
	if refused.Load() != 0 || sent.Load() < 1000 {
		t.Errorf("%d of %d packets were refused, which are allowed", refused.Load(), sent.Load())
	}
}

// TestAutoLayout: a table each until there are too many.
func TestAutoLayout(t *testing.T) {
	for _, n := range []int{0, 1, AutoTables, AutoTables + 1} {
		var policies []Policy
		for i := range n {
			policies = append(policies, Policy{Name: fmt.Sprintf("i%d", i), UID: uint32(61000 + i), Port: uint16(9000 + i), Isolated: true})
		}
		policies = append(policies, Policy{Name: "open", UID: 60000, Port: 80})
		r := Rules{Layout: Auto, Policies: policies}
		tables, err := r.Tables()
		if err != nil {
			t.Fatal(err)
		}
		if got := r.tableNames(); !slices.Equal(got, tableNames(tables)) {
			t.Errorf("%d isolated instances: the tables are said to be %s", n, got)
		}
		shared := slices.Contains(tableNames(tables), SharedTable)
		if shared != (n > AutoTables) || !shared && len(tables) != n+1 {
			t.Errorf("%d isolated instances: %s", n, strings.Join(tableNames(tables), ", "))
		}
	}
}
