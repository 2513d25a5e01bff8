package netpolicy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// world is two fresh namespaces with a link between them: host, where instances run, and far, which stands for
// everything else. Nothing leaves them.
type world struct {
	host, far *netns
	// reached counts the TCP connections and UDP datagrams that arrive at far, by its own address.
	reached map[string]*atomic.Int64
}

const (
	webUID, apiUID = 62001, 62002
	farPort        = "7000"
	// patient lets the kernel ask for a neighbour a second and a third time; brief is for packets that are dropped.
	patient, brief = 5 * time.Second, 300 * time.Millisecond
)

// Addresses of far. The last three are metadata services.
var farAddrs = []string{"10.77.0.2", "10.77.0.3", "2001:db8:77::2", "2001:db8:77::3", "169.254.169.254", "100.100.100.200", "fd00:ec2::254"}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{host: newNetNS(t), far: newNetNS(t), reached: map[string]*atomic.Int64{}}
	w.host.run("ip", "link", "add", "h0", "type", "veth", "peer", "name", "f0", "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), w.far.fd))
	w.host.run("ip", "addr", "add", "10.77.0.1/24", "dev", "h0")
	w.host.run("ip", "addr", "add", "2001:db8:77::1/64", "dev", "h0", "nodad")
	for _, addr := range farAddrs {
		bits := "/32"
		if strings.Contains(addr, ":") {
			bits = "/128"
		}
		if strings.HasPrefix(addr, "10.") {
			bits = "/24"
		}
		if strings.HasPrefix(addr, "2001:") {
			bits = "/64"
		}
		w.far.run("ip", "addr", "add", addr+bits, "dev", "f0", "nodad")
	}
	for dev, n := range map[string]*netns{"h0": w.host, "f0": w.far} {
		n.run("ip", "link", "set", dev, "up")
	}
	w.host.run("ip", "route", "add", "default", "via", "10.77.0.2")
	w.host.run("ip", "-6", "route", "add", "default", "via", "2001:db8:77::2")
	for _, addr := range farAddrs {
		w.reached[addr] = w.serve(t, addr)
	}
	return w
}

// serve echoes and counts at one of far's addresses, TCP and UDP.
func (w *world) serve(t *testing.T, addr string) *atomic.Int64 {
	count := &atomic.Int64{}
	go echo(w.far.listen(0, "tcp", net.JoinHostPort(addr, farPort)), count)
	var pc net.PacketConn
	var err error
	w.far.do(func() { pc, err = net.ListenPacket("udp", net.JoinHostPort(addr, farPort)) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			count.Add(1)
			_, _ = pc.WriteTo(buf[:n], from)
		}
	}()
	return count
}

func echo(l net.Listener, count *atomic.Int64) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		count.Add(1)
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

// try is one exchange of a user with an address of far.
func (w *world) try(uid int, network, addr string) error {
	return exchange(w.host.dial(uid, network, net.JoinHostPort(addr, farPort), patient))
}

func exchange(c net.Conn, err error) error {
	if err != nil {
		return err
	}
	defer c.Close()
	return ping(c)
}

func ping(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(patient)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("ping\n")); err != nil {
		return err
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "ping\n" {
		return fmt.Errorf("answered %q, %w", line, err)
	}
	return nil
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
