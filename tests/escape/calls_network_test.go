package escape

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// noAnswer is what a connection comes to whose packets are dropped.
const noAnswer = "no answer"

// dialed connects; a datagram is sent, and has to be answered. $VARIABLES in the address are expanded.
func dialed(network, address string) call {
	return func() error {
		c, err := net.DialTimeout(network, os.ExpandEnv(address), patience)
		if err != nil {
			return err
		}
		defer c.Close()
		if !strings.HasPrefix(network, "udp") {
			return nil
		}
		c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 16))
		return err
	}
}

const patience = 500 * time.Millisecond

// fetched asks opencode's HTTP interface, with the password of an environment variable ("" for none).
func fetched(url, password string) call {
	return func() error {
		request, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if password != "" {
			request.SetBasicAuth("opencode", os.Getenv(password))
		}
		response, err := (&http.Client{Timeout: patience}).Do(request)
		if err != nil {
			return err
		}
		response.Body.Close()
		return outcome(response.Status)
	}
}

func socket(family, kind, protocol int) call { return sys(unix.SYS_SOCKET, family, kind, protocol) }

// netlink sends one request and returns the error of the answer.
func netlink(protocol int, kind, flags uint16, body []byte) call {
	return func() error {
		s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		message := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
		*(*unix.NlMsghdr)(unsafe.Pointer(&message[0])) = unix.NlMsghdr{
			Len: uint32(unix.SizeofNlMsghdr + len(body)), Type: kind, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK | flags, Seq: 1,
		}
		if err := unix.Sendto(s, append(message, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		answer := make([]byte, 65536)
		n, _, err := unix.Recvfrom(s, answer, 0)
		if err != nil {
			return err
		}
		if h := (*unix.NlMsghdr)(unsafe.Pointer(&answer[0])); n >= unix.SizeofNlMsghdr+4 && h.Type == unix.NLMSG_ERROR {
			if errno := -*(*int32)(unsafe.Pointer(&answer[unix.SizeofNlMsghdr])); errno != 0 {
				return unix.Errno(errno)
			}
		}
		return nil
	}
}

// connected connects to a Unix socket; an address that begins with @ is abstract.
func connected(address string) call { return dialed("unix", address) }

// sent connects to a Unix socket of datagrams.
func sent(path string) call {
	return func() error {
		s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		return unix.Connect(s, &unix.SockaddrUnix{Name: path})
	}
}

// serve listens on addresses until it is killed: TCP and UDP on "HOST:PORT", else Unix sockets, of datagrams where the
// name ends in ":dgram".
func serve(addresses []string) error {
	for _, a := range addresses {
		network := "unix"
		if _, _, err := net.SplitHostPort(a); err == nil && !strings.HasPrefix(a, "/") {
			c, err := net.ListenPacket("udp", a)
			if err != nil {
				return err
			}
			go echo(c)
			network = "tcp"
		}
		if path, ok := strings.CutSuffix(a, ":dgram"); ok {
			if _, err := net.ListenPacket("unixgram", path); err != nil {
				return err
			}
			a = path
		} else {
			l, err := net.Listen(network, a)
			if err != nil {
				return err
			}
			go http.Serve(l, http.NotFoundHandler())
		}
		if strings.HasPrefix(a, "/") {
			if err := os.Chmod(a, 0o666); err != nil {
				return err
			}
		}
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin) // as long as its parent lives
	return err
}

func echo(c net.PacketConn) {
	b := make([]byte, 64)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(b[:n], from)
	}
}
