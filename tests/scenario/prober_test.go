package scenario

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// playProbe does what it is told until the other end hangs up.
func playProbe(control string) error {
	c, err := net.Dial("tcp", control)
	if err != nil {
		return err
	}
	say, hear := json.NewEncoder(c), json.NewDecoder(c)
	if err := say.Encode(strings.TrimPrefix(os.Getenv("USER"), "opencode-")); err != nil {
		return err
	}
	p := prober{}
	for {
		var o order
		if err := hear.Decode(&o); err != nil {
			return err
		}
		if err := say.Encode(p.perform(o)); err != nil {
			return err
		}
	}
}

// prober is the inner end: the sockets that it keeps, by name.
type prober map[string]int

var errNoSocket = errors.New("no socket")

func (p prober) perform(o order) outcome {
	said, err := p.do(o)
	if err != nil {
		said = err.Error()
	}
	return outcome{errors.Is(err, errNoSocket), said}
}

func (p prober) do(o order) (said string, err error) {
	fd, kept := p[o.Socket]
	switch {
	case o.Do == "try" || o.Do == "open" || o.Do == "receive":
		if kept {
			return "", fmt.Errorf("%s is open", o.Socket)
		}
	case !kept:
		return "", fmt.Errorf("%s is not open", o.Socket)
	}
	switch o.Do {
	case "try": // open, send, close
		fd, err := openSocket(o)
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		return send(fd, o)
	case "open":
		fd, err := openSocket(o)
		if err == nil {
			p[o.Socket] = fd
		}
		return "open", err
	case "send":
		return send(fd, o)
	case "sendto": // from a socket that may have no destination of its own
		_, _, address, err := sockaddr(netip.MustParseAddrPort(o.To), kinds[o.Kind])
		if err == nil {
			err = unix.Sendto(fd, kinds[o.Kind].payload, 0, address)
		}
		return "sent", err
	case "fill": // what the kernel takes without waiting
		return fill(fd)
	case "upload": // and go on as long as it lasts
		go pump(fd, unix.POLLOUT, unix.Write)
		return "begun", paceSocket(fd)
	case "download":
		go pump(fd, unix.POLLIN, unix.Read)
		return "begun", nil
	case "close":
		delete(p, o.Socket)
		return "closed", unix.Close(fd)
	case "give": // the socket to whoever listens at a Unix socket
		return "given", pass(o.To, func(c int) error { return unix.Sendmsg(c, []byte("x"), unix.UnixRights(fd), nil, 0) })
	case "receive":
		return "received", pass(o.To, func(c int) (err error) {
			p[o.Socket], err = receive(c)
			return err
		})
	}
	return "", fmt.Errorf("do what? %q", o.Do)
}

// patience bounds what is awaited, however busy the machine.
const patience = 20_000 // milliseconds

func await(fd int, event int16) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: event}}
	for {
		n, err := unix.Poll(fds, patience)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			return errors.New("no answer")
		}
		return err
	}
}

// openSocket makes a socket and connects it. A connection that is not awaited is under
// way when it returns: its first packet has been sent, or not.
func openSocket(o order) (int, error) {
	to, err := netip.ParseAddrPort(o.To)
	if err != nil {
		return 0, err
	}
	k, ok := kinds[o.Kind]
	if !ok {
		return 0, fmt.Errorf("no kind %q", o.Kind)
	}
	family, protocol, address, err := sockaddr(to, k)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(family, k.socket|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errNoSocket, err)
	}
	if err := connect(fd, o, k, address); err != nil {
		unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

func sockaddr(to netip.AddrPort, k kind) (family, protocol int, address unix.Sockaddr, err error) {
	if to.Addr().Is4() {
		family, protocol, address = unix.AF_INET, k.ipv4, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	} else {
		a := &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
		if zone := to.Addr().Zone(); zone != "" {
			i, err := net.InterfaceByName(zone)
			if err != nil {
				return 0, 0, nil, err
			}
			a.ZoneId = uint32(i.Index)
		}
		family, protocol, address = unix.AF_INET6, k.ipv6, a
	}
	if k.family != 0 {
		family = k.family
	}
	return family, protocol, address, nil
}

func connect(fd int, o order, k kind, address unix.Sockaddr) error {
	if o.Device != "" {
		if err := unix.BindToDevice(fd, o.Device); err != nil {
			return err
		}
	}
	switch {
	case o.Kind == "unconnected":
		return unix.Sendto(fd, k.payload, 0, address)
	case k.socket == unix.SOCK_DGRAM:
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
			return err
		}
	}
	begin := func() error { return unix.Connect(fd, address) }
	if o.Kind == "fast open" {
		begin = func() error { return unix.Sendto(fd, k.payload, unix.MSG_FASTOPEN, address) }
	}
	if err := begin(); err != nil && err != unix.EINPROGRESS {
		return err
	}
	if !o.Await || k.socket == unix.SOCK_DGRAM {
		return nil
	}
	if err := await(fd, unix.POLLOUT); err != nil {
		return err
	}
	if code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
		return errors.Join(err, unix.Errno(code))
	}
	return nil
}

// send sends what the kind of traffic consists of, if openSocket has not.
func send(fd int, o order) (string, error) {
	k := kinds[o.Kind]
	payload := k.payload
	switch o.Kind {
	case "ping":
		payload = echoRequest(fd)
	case "unconnected":
		payload = nil
	}
	if payload != nil {
		if _, err := unix.Write(fd, payload); err != nil && (o.Await || err != unix.EAGAIN) {
			return "", err
		}
	}
	if !o.Await {
		return "sent", nil
	}
	if err := await(fd, unix.POLLIN); err != nil {
		return "", err
	}
	if n, err := unix.Read(fd, make([]byte, 1<<16)); err != nil || n == 0 {
		return "hung up", err
	}
	return "answered", nil
}

// echoRequest is an ICMP echo request; the kernel adds identifier and checksum.
func echoRequest(fd int) []byte {
	kind := byte(8)
	if family, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); family == unix.AF_INET6 {
		kind = 128
	}
	return []byte{kind, 0, 0, 0, 0, 0, 0, 1, 'p', 'i', 'n', 'g'}
}

func fill(fd int) (string, error) {
	sum := 0
	for chunk := make([]byte, 1<<16); ; {
		n, err := unix.Write(fd, chunk)
		if err == unix.EAGAIN {
			return fmt.Sprint(sum), nil
		}
		if err != nil {
			return "", err
		}
		sum += n
	}
}

// pump moves bytes until the connection breaks.
func pump(fd int, event int16, move func(int, []byte) (int, error)) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: event}}
	for chunk := make([]byte, 1<<16); ; {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return
		}
		if n, err := move(fd, chunk); err != nil && err != unix.EAGAIN || n == 0 {
			return
		}
	}
}

// pass does something over a connection to a Unix socket.
func pass(path string, f func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return err
	}
	return f(fd)
}

// receive takes the one descriptor that the other end of a Unix socket sends.
func receive(fd int) (int, error) {
	rights := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(fd, make([]byte, 1), rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return 0, fmt.Errorf("%d messages, %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return 0, fmt.Errorf("%d descriptors, %w", len(fds), err)
	}
	return fds[0], nil
}
