package netpolicy

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestGuardPorts(t *testing.T) {
	w := newWorld(t)
	unlocked := Policy{Name: "web", UID: webUID, Port: 8081, OnBlock: Reject}
	locked := Policy{Name: "api", UID: apiUID, Port: 8082, Locked: true, OnBlock: Reject, Isolated: true, Allow: allow("0.0.0.0/0", "::/0")}
	w.host.ensure(must(Guard([]Policy{unlocked, locked})), must(Egress(locked)))
	for port, uid := range map[string]int{"8081": webUID, "8082": apiUID, "9000": 0} {
		go echo(w.host.listen(uid, "tcp", ":"+port), &atomic.Int64{})
	}
	addrs := []string{"127.0.0.1", "127.0.0.2", "127.255.1.1", "::1", "::ffff:127.0.0.1", "10.77.0.1", "2001:db8:77::1", w.linkLocal(t)}
	cases := []struct {
		who     string
		uid     int
		port    string
		refused bool
	}{
		{"unlocked to the other's port", webUID, "8082", true},
		{"unlocked to its own port", webUID, "8081", false},
		{"unlocked to a local service", webUID, "9000", false},
		{"locked to the other's port", apiUID, "8081", true},
		{"locked to its own port", apiUID, "8082", true},
		{"locked to a local service", apiUID, "9000", false},
		{"another user to an instance", 1000, "8082", false},
		{"root to an instance", 0, "8081", false},
	}
	for _, c := range cases {
		for _, addr := range addrs {
			err := exchange(w.host.dial(c.uid, "tcp", net.JoinHostPort(addr, c.port), patient))
			if c.refused && !errors.Is(err, unix.ECONNREFUSED) || !c.refused && err != nil {
				t.Errorf("%s at %s: %v", c.who, addr, err)
			}
		}
	}
	if a, b := w.host.blocked("web"), w.host.blocked("api"); a.Packets != uint64(len(addrs)) || b.Packets != uint64(2*len(addrs)) {
		t.Errorf("counted %v and %v for %d addresses", a, b, len(addrs))
	}
	// Elsewhere that port is somebody else's.
	go echo(w.far.listen(0, "tcp", "10.77.0.2:8082"), &atomic.Int64{})
	if err := exchange(w.host.dial(webUID, "tcp", "10.77.0.2:8082", patient)); err != nil {
		t.Errorf("the same port on another machine: %v", err)
	}
}

// linkLocal is the kernel's own v6 address of the link, once it is usable.
func (w *world) linkLocal(t *testing.T) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for line := range strings.Lines(w.host.run("ip", "-6", "-o", "addr", "show", "dev", "h0", "scope", "link")) {
			if fields := strings.Fields(line); !strings.Contains(line, "tentative") && len(fields) > 3 {
				addr, _, _ := strings.Cut(fields[3], "/")
				var index int
				w.host.do(func() {
					if ifi, err := net.InterfaceByName("h0"); err == nil {
						index = ifi.Index
					}
				})
				return fmt.Sprintf("%s%%%d", addr, index)
			}
		}
	}
	t.Fatal("no link-local address")
	return ""
}

func TestGuardMetadata(t *testing.T) {
	w := newWorld(t)
	plain := Policy{Name: "web", UID: webUID, Port: 8081, OnBlock: Reject, Allow: allow("0.0.0.0/0", "::/0", "100.64.0.0/10")}
	named := Policy{Name: "api", UID: apiUID, Port: 8082, OnBlock: Reject, Isolated: true,
		Allow: allow("0.0.0.0/0", "169.254.169.0/24", "fd00:ec2::254/128")}
	w.host.ensure(must(Guard([]Policy{plain, named})), must(Egress(named)))
	for _, c := range []struct {
		uid     int
		addr    string
		refused bool
	}{
		{webUID, "169.254.169.254", true},
		{webUID, "100.100.100.200", true},
		{webUID, "fd00:ec2::254", true},
		{webUID, "10.77.0.3", false},
		{apiUID, "169.254.169.254", false},
		{apiUID, "100.100.100.200", true},
		{apiUID, "fd00:ec2::254", false},
		{0, "169.254.169.254", false},
	} {
		w.reached[c.addr].Store(0)
		err := w.try(c.uid, "tcp", c.addr)
		if c.refused && !errors.Is(err, unix.ECONNREFUSED) || !c.refused && err != nil {
			t.Errorf("uid %d to %s: %v", c.uid, c.addr, err)
		}
		if n := w.reached[c.addr].Load(); c.refused && n != 0 {
			t.Errorf("uid %d: %d packets at %s", c.uid, n, c.addr)
		}
	}
	go echo(w.far.listen(0, "tcp", "169.254.169.254:53"), &atomic.Int64{})
	if err := exchange(w.host.dial(webUID, "tcp", "169.254.169.254:53", patient)); err != nil {
		t.Errorf("a resolver at the metadata address: %v", err)
	}
}
