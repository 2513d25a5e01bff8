package scenario

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/opencoded/opencoded/tests/operator"
)

// passedSockets: a socket belongs to whoever made it, for nftables (the user of
// its file) and for systemd (the control group that it was made in), whichever
// process sends over it. So what a program outside hands to an instance over an
// allowed Unix socket is under no policy of the instance's, and what an instance
// hands out stays under it.
func passedSockets(t *testing.T, p *probe, to string) {
	t.Helper()
	broker := listenBroker(t, "/run/broker/"+p.name)
	listen(t, to, echo)

	// Handed in: a connection, and a datagram socket, which may send anywhere.
	connection, err := net.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	datagrams, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	arrived := func(what string, yes bool, send func()) {
		t.Helper()
		key := arrival(kinds["udp"], netip.MustParseAddrPort(to))
		before := arrivals(t)[key]
		send()
		settle(t, p)
		if n := arrivals(t)[key] - before; yes != (n > 0) {
			t.Errorf("%s: %d datagrams of %s have arrived", p.name, n, what)
		}
	}
	arrived("its own socket", false, func() { p.do(t, order{Do: "try", Kind: "udp", To: to}) })

	go broker.hand(t, connection.(*net.TCPConn))
	p.must(t, order{Do: "receive", Socket: "connection", To: broker.path}, "received")
	p.must(t, order{Do: "send", Socket: "connection", Kind: "tcp", Await: true}, "answered")
	go broker.hand(t, datagrams.(*net.UDPConn))
	p.must(t, order{Do: "receive", Socket: "datagrams", To: broker.path}, "received")
	arrived("a socket of root's", true, func() {
		p.must(t, order{Do: "sendto", Socket: "datagrams", Kind: "udp", To: to}, "sent")
	})

	// Handed out: root sends, and the policy of the instance holds.
	p.must(t, order{Do: "open", Socket: "own", Kind: "udp", To: to}, "open")
	taken := make(chan *os.File, 1)
	go func() { taken <- broker.take(t) }()
	p.must(t, order{Do: "give", Socket: "own", To: broker.path}, "given")
	own := <-taken
	if own == nil {
		t.FailNow()
	}
	defer own.Close()
	arrived("the instance's socket in root's hands", false, func() {
		if _, err := own.WriteString("ping\n"); err == nil {
			t.Errorf("%s: root sent over the instance's socket", p.name)
		}
	})
	rooted := (prober{}).perform(order{Do: "try", Kind: "udp", To: at(other4, settled), Await: true})
	operator.Same(t, "what root gets over a socket of its own", rooted.Said, "answered")
}

// broker is a program outside that passes sockets over a Unix socket.
type broker struct {
	path string
	*net.UnixListener
}

func listenBroker(t *testing.T, path string) broker {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		err = os.Chmod(path, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return broker{path, l}
}

// hand gives a socket to whoever connects next.
func (b broker) hand(t *testing.T, s interface{ File() (*os.File, error) }) {
	f, err := s.File()
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	c, err := b.AcceptUnix()
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	if _, _, err := c.WriteMsgUnix([]byte("x"), unix.UnixRights(int(f.Fd())), nil); err != nil {
		t.Error(err)
	}
}

// take gets one from whoever connects next.
func (b broker) take(t *testing.T) *os.File {
	c, err := b.AcceptUnix()
	if err != nil {
		t.Error(err)
		return nil
	}
	defer c.Close()
	f, err := c.File()
	if err != nil {
		t.Error(err)
		return nil
	}
	defer f.Close()
	fd, err := receive(int(f.Fd())) // Fd makes it blocking
	if err != nil {
		t.Error(err)
		return nil
	}
	return os.NewFile(uintptr(fd), "passed")
}
