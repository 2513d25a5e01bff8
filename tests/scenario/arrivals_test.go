package scenario

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/opencoded/opencoded/tests/operator"
)

// within runs f in a network namespace, to which the sockets that it makes belong
// for good.
func within(t *testing.T, namespace string, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/"+namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("cannot enter the network namespace %s: %v", namespace, err)
	}
}

// listen serves TCP at an address of the world until the scenario ends.
func listen(t *testing.T, address string, serve func(net.Conn)) {
	t.Helper()
	var l net.Listener
	var err error
	within(t, "world", func() { l, err = net.Listen("tcp", address) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
}

func echo(c net.Conn) { io.Copy(c, c) }

// echoDatagrams answers at an address of the world until the scenario ends.
func echoDatagrams(t *testing.T, address string) {
	t.Helper()
	var c net.PacketConn
	var err error
	within(t, "world", func() { c, err = net.ListenPacket("udp", address) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buffer := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(buffer[:n], from)
		}
	}()
}

// arrivals are the packets that came in at the world's end of the link, whoever
// they were for and whether anybody listens, by protocol and destination: such as
// "17 224.0.0.251:5353" (17 is UDP), "1 192.0.2.2:0" (an ICMP echo request).
func arrivals(t *testing.T) map[string]int {
	t.Helper()
	var listed struct {
		Nftables []struct {
			Set struct {
				Name string
				Elem []struct {
					Elem struct {
						Val     json.RawMessage
						Counter struct{ Packets int }
					}
				}
			}
		}
	}
	text := operator.Must(t, "ip", "netns", "exec", "world", "nft", "-j", "-n", "list", "table", "inet", "count")
	if err := json.Unmarshal([]byte(text), &listed); err != nil {
		t.Fatal(err)
	}
	counted := map[string]int{}
	for _, object := range listed.Nftables {
		for _, e := range object.Set.Elem {
			var address string
			protocol, port := 0, 0
			switch object.Set.Name {
			case "flows4", "flows6":
				var flow struct{ Concat [3]any }
				if err := json.Unmarshal(e.Elem.Val, &flow); err != nil {
					t.Fatal(err)
				}
				address = fmt.Sprint(flow.Concat[0])
				protocol, _ = strconv.Atoi(fmt.Sprint(flow.Concat[1]))
				port, _ = strconv.Atoi(fmt.Sprint(flow.Concat[2]))
			case "pings4", "pings6":
				if err := json.Unmarshal(e.Elem.Val, &address); err != nil {
					t.Fatal(err)
				}
				protocol = map[string]int{"pings4": unix.IPPROTO_ICMP, "pings6": unix.IPPROTO_ICMPV6}[object.Set.Name]
			default:
				continue
			}
			counted[fmt.Sprintf("%d %s", protocol, at(address, uint16(port)))] += e.Elem.Counter.Packets
		}
	}
	return counted
}

// arrival is the key under which [arrivals] counts a kind of traffic.
func arrival(k kind, to netip.AddrPort) string {
	return fmt.Sprintf("%d %s", k.protocol(to.Addr().Unmap()), netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port()))
}
