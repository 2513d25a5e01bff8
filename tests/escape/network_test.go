package escape

import (
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// networkProbes are of an instance with restricted egress: 192.0.2.0/24 and 2001:db8:1::/64 are allowed. TCP waits
// for an answer that does not come; what is not TCP is refused when it is sent.
var networkProbes = []probe{
	try("tcp", "connects to an address that is not allowed", dialed("tcp", "198.51.100.2:9000"), noAnswer),
	try("tcp6", "connects to one over IPv6", dialed("tcp", "[2001:db8:2::2]:9000"), noAnswer),
	try("tcp-mapped", "connects to one as an IPv4 address within IPv6", mapped("198.51.100.2", 9000), noAnswer),
	try("udp", "sends a datagram to an address that is not allowed", dialed("udp", "198.51.100.2:9000"), "EPERM"),
	try("udp6", "sends one over IPv6", dialed("udp", "[2001:db8:2::2]:9000"), "EPERM"),
	try("dns", "asks a name server that is not allowed", dialed("udp", "198.51.100.2:53"), "EPERM"),
	try("dns-tcp", "asks it over TCP", dialed("tcp", "198.51.100.2:53"), noAnswer),
	try("ping", "pings an address that is not allowed", pinged("198.51.100.2"), "EPERM").compare(depends),
	try("multicast", "sends to everybody on the link (224.0.0.251)", dialed("udp", "224.0.0.251:5353"), "EPERM"),
	try("multicast6", "sends to everybody on the link over IPv6", dialed("udp", "[ff02::fb%host0]:5353"), "EPERM"),
	try("metadata", "asks the cloud's metadata service", dialed("tcp", "169.254.169.254:80"), noAnswer),
	try("fast-open", "sends data with the first packet of a connection", fastOpened, noAnswer),
	try("beta-port", "connects to another instance", dialed("tcp", "127.0.0.1:8702"), noAnswer),
	try("beta-port-other", "connects to it by another loopback address", dialed("tcp", "127.9.9.9:8702"), noAnswer).compare(depends),
	try("beta-port-zero", "connects to it by 0.0.0.0", dialed("tcp", "0.0.0.0:8702"), noAnswer),
	try("beta-port-6", "connects to it by ::1", dialed("tcp", "[::1]:8702"), noAnswer),
	try("beta-port-mapped", "connects to it by ::ffff:127.0.0.1", mapped("127.0.0.1", 8702), noAnswer),
	try("beta-port-host", "connects to it by an address of the host", dialed("tcp", "192.0.2.1:8702"), noAnswer),
	try("own-port", "connects to its own server, whose configuration is locked", dialed("tcp", "127.0.0.1:8701"), noAnswer),
	try("own-port-bind", "connects to its own server from another address", bound("127.5.5.5", "127.0.0.1:8701"), noAnswer),

	may("allowed", "connects to an address that is allowed", dialed("tcp", "192.0.2.2:9000"), "it is in outbound_allow_cidrs"),
	may("allowed6", "connects to one over IPv6", dialed("tcp", "[2001:db8:1::2]:9000"), "it is in outbound_allow_cidrs"),
	may("allowed-udp", "sends a datagram to an address that is allowed", dialed("udp", "192.0.2.2:9000"), "a network is allowed for all protocols; a port can be, too"),
	may("local", "connects to an ordinary server on loopback", dialed("tcp", "127.0.0.1:9100"), "databases and servers under test listen there; the ports of instances are the exception"),
	may("local6", "connects to one on ::1", dialed("tcp", "[::1]:9100"), "as on 127.0.0.1"),
	may("listen", "listens on a port of its own", listened("127.0.0.1:0"), "servers under test do"),
}

// mapped connects to an IPv4 address by an IPv6 socket.
func mapped(address string, port int) call {
	return func() error {
		s, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		timeout := unix.NsecToTimeval(patience.Nanoseconds())
		if err := unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout); err != nil {
			return err
		}
		return waited(unix.Connect(s, &unix.SockaddrInet6{Port: port, Addr: [16]byte(net.ParseIP(address).To16())}))
	}
}

// fastOpened sends with MSG_FASTOPEN, so that connect(2), at which a rule could be hooked, is not called.
func fastOpened() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	timeout := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout); err != nil {
		return err
	}
	return waited(unix.Sendto(s, []byte("hello"), unix.MSG_FASTOPEN, &unix.SockaddrInet4{Port: 9000, Addr: [4]byte{198, 51, 100, 2}}))
}

// waited takes the error of a connect(2) that has run into SO_SNDTIMEO for what it is.
func waited(err error) error {
	if err == unix.EINPROGRESS || err == unix.EAGAIN {
		return outcome(noAnswer)
	}
	return err
}

// bound connects from an address.
func bound(from, to string) call {
	return func() error {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		return closed(d.Dial("tcp", to))
	}
}

func listened(address string) call {
	return func() error { return closed(net.Listen("tcp", address)) }
}

// closed gives back at once what there is only to be had or not.
func closed(c io.Closer, err error) error {
	if err == nil {
		c.Close()
	}
	return err
}

// pinged sends an ICMP echo by a socket that needs no rights, where the host allows them.
func pinged(address string) call {
	return func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		if err == unix.EACCES { // net.ipv4.ping_group_range
			return fmt.Errorf("no socket: %w", unix.EPERM)
		}
		if err != nil {
			return err
		}
		defer unix.Close(s)
		return unix.Sendto(s, []byte{8, 0, 0, 0, 0, 0, 0, 1}, 0, &unix.SockaddrInet4{Addr: [4]byte(net.ParseIP(address).To4())})
	}
}
