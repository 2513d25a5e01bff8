package netpolicy

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// BenchmarkPacket: what one UDP packet costs with the rules of N isolated instances, eight networks each, as a multiple
// of what it costs without any: one of a process that is no instance (other), and one of an instance to a network that
// it may reach; each in a system call of its own, and with 64 in one call (batch). Each set of rules has namespaces of
// its own, so that rounds with and without can take turns, and several of them: where in memory the rules happen to lie
// makes some percent.
func BenchmarkPacket(b *testing.B) {
	const stranger, copies = 60999, 4
	sink := newNetNS(b)
	var senders []*sender
	streets := 0
	street := func() *netns { streets++; return newStreet(b, sink, streets) }
	none := newSender(b, street(), "none", stranger)
	for copy := range copies {
		for _, count := range []int{1, 16, 100, 1000} {
			policies := manyPolicies(count)
			last := &policies[count-1]
			last.Allow = append(last.Allow[1:], allow("11.0.0.0/28")...)
			for _, layout := range []Layout{Shared, PerInstance, "linear"} {
				if layout == PerInstance && count > AutoTables || layout == "linear" && copy > 0 {
					continue
				}
				n := street()
				if layout == "linear" {
					n.nft(linear(policies))
				} else {
					tables, err := Rules{Layout: layout, Policies: policies}.Tables()
					if err != nil {
						b.Fatal(err)
					}
					n.ensure(tables...)
				}
				name := fmt.Sprintf("%s-%d", layout, count)
				senders = append(senders, newSender(b, n, name+":other", stranger), newSender(b, n, name+":instance", last.UID))
			}
		}
	}
	f := figures{}
	for b.Loop() {
		for range 10 {
			for _, s := range senders {
				base := none.send(b)
				f.add(s.name, s.send(b).Seconds()/base.Seconds())
				base = none.sendBatch(b)
				f.add(s.name+"-batch", s.sendBatch(b).Seconds()/base.Seconds())
			}
		}
	}
	f.report(b)
}

// newStreet is a namespace with a way out that ends in another one, which has no addresses and drops what comes.
func newStreet(b *testing.B, sink *netns, number int) *netns {
	n, end := newNetNS(b), fmt.Sprintf("end%d", number)
	n.run("ip", "link", "add", "out", "type", "veth", "peer", "name", end, "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), sink.fd))
	n.run("ip", "addr", "add", "11.255.0.1/8", "dev", "out")
	n.run("ip", "link", "set", "out", "up")
	sink.run("ip", "link", "set", end, "up")
	n.run("ip", "neigh", "add", "11.0.0.1", "lladdr", "02:00:00:00:00:01", "dev", "out", "nud", "permanent")
	return n
}

// sender is a connected socket of one user.
type sender struct {
	name  string
	fd    int
	batch *ipv4.PacketConn // the same socket
	burst int              // packets that take about a millisecond
}

func newSender(b *testing.B, n *netns, name string, uid uint32) *sender {
	s := &sender{name: name, burst: 20}
	var err error
	n.as(int(uid), func() {
		if s.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil {
			err = unix.Connect(s.fd, &unix.SockaddrInet4{Port: 7000, Addr: [4]byte{11, 0, 0, 1}})
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	file := os.NewFile(uintptr(s.fd), name)
	conn, err := net.FilePacketConn(file)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _, _ = file.Close(), conn.Close() })
	s.batch = ipv4.NewPacketConn(conn)
	s.send(b) // the first asks for the route, and for an entry of connection tracking
	s.burst = max(5, int(time.Millisecond/s.send(b)))
	return s
}

// send returns what a packet of a burst takes. A rule that drops one is an error of the write.
func (s *sender) send(b *testing.B) time.Duration {
	packet := [64]byte{}
	began := time.Now()
	for range s.burst {
		if _, err := unix.Write(s.fd, packet[:]); err != nil {
			b.Fatalf("%s: %v", s.name, err)
		}
	}
	return time.Since(began) / time.Duration(s.burst)
}

// sendBatch is send with as many packets in a call as the kernel makes of one.
func (s *sender) sendBatch(b *testing.B) time.Duration {
	messages := make([]ipv4.Message, 64)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, 64)}
	}
	sent := 0
	began := time.Now()
	for sent < s.burst {
		n, err := s.batch.WriteBatch(messages, 0)
		if err != nil {
			b.Fatalf("%s: %v", s.name, err)
		}
		sent += n
	}
	return time.Since(began) / time.Duration(sent)
}

// linear is a table for each instance and in it a line for each network, as they are written without sets.
func linear(policies []Policy) string {
	var s strings.Builder
	for _, p := range policies {
		fmt.Fprintf(&s, "table inet opencode-%s {\nchain output {\ntype filter hook output priority filter; policy accept;\n", p.Name)
		line := func(format string, args ...any) {
			fmt.Fprintf(&s, "meta skuid %d "+format+"\n", append([]any{p.UID}, args...)...)
		}
		line("ct state established,related accept")
		line(`oifname "lo" accept`)
		for _, d := range p.Allow {
			line("ip daddr %s accept", d.Network)
		}
		line("limit rate 5/minute log prefix \"opencode-%s-blocked: \"", p.Name)
		line("drop")
		s.WriteString("}\n}\n")
	}
	return s.String()
}
