package netpolicy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// socketBuffer is large enough for one batch of 1,000 instances or 10,000 prefixes and for the kernel's
	// errors about it; with the default "message too long" or ENOBUFS comes back. It is a bound, not an
	// allocation.
	socketBuffer = 64 << 20
	// receiveBuffer is what the kernel fills at most with one part of a dump (netlink_recvmsg in
	// net/netlink/af_netlink.c), and does only for who asks for as much.
	receiveBuffer = 32 << 10
	// defaultTimeout ends a wait for an answer that the kernel does not give.
	defaultTimeout = 30 * time.Second
)

// socket is a netlink socket for one goroutine, as requests follow each other on it.
//
// Messages go past netlink.Conn, which reads each with two system calls and a fresh buffer and hides which message of
// a batch an error is about.
type socket struct {
	conn   *netlink.Conn
	raw    syscall.RawConn
	buffer []byte
	number uint32 // of the last request
	closed atomic.Bool
}

func (k *Kernel) open(ctx context.Context) (*socket, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: k.netns})
	if err != nil {
		return nil, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(defaultTimeout)
	}
	s := &socket{conn: c, buffer: make([]byte, receiveBuffer)}
	for _, err := range []error{
		ctx.Err(), c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer), c.SetDeadline(deadline),
		c.SetOption(netlink.CapAcknowledge, true), // an error does not repeat the message that it is about
	} {
		if err != nil {
			c.Close()
			return nil, err
		}
	}
	if s.raw, err = c.SyscallConn(); err != nil {
		c.Close()
		return nil, err
	}
	return s, nil
}

// close ends a receive that waits, with os.ErrClosed.
func (s *socket) close() error {
	s.closed.Store(true)
	return s.conn.Close()
}

// send hands over one or more messages, which the kernel has worked through on return.
func (s *socket) send(data []byte) error {
	var sent error
	err := s.raw.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), data, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		return sent != unix.EAGAIN
	})
	if err := errors.Join(err, sent); err != nil {
		return fmt.Errorf("cannot send %d bytes: %w", len(data), err)
	}
	return nil
}

// message is one from the kernel.
type message struct {
	syscall.NlMsghdr
	data []byte // for nf_tables from struct nfgenmsg on
}

// receive waits for at least one message.
func (s *socket) receive() ([]message, error) {
	var n int
	var received error
	err := s.raw.Read(func(fd uintptr) bool {
		n, _, received = unix.Recvfrom(int(fd), s.buffer, unix.MSG_TRUNC)
		return received != unix.EAGAIN
	})
	switch err := errors.Join(err, received); {
	case s.closed.Load():
		return nil, os.ErrClosed
	case err != nil:
		return nil, fmt.Errorf("cannot receive: %w", err)
	}
	if n > len(s.buffer) {
		return nil, fmt.Errorf("internal error: a message of %d bytes from the kernel", n)
	}
	list, err := syscall.ParseNetlinkMessage(slices.Clone(s.buffer[:n]))
	out := make([]message, len(list))
	for i, m := range list {
		out[i] = message{m.Header, m.Data}
	}
	return out, err
}

// attributes follow struct nfgenmsg.
func (m message) attributes() []byte { return m.data[min(nfgenmsgSize, len(m.data)):] }

const nfgenmsgSize = 4

// errno is what an NLMSG_ERROR or NLMSG_DONE carries: 0 when all is well.
func (m message) errno() unix.Errno {
	if len(m.data) < 4 {
		return 0
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(m.data)))
}

// request asks nf_tables and returns the attributes of each message of the answer. With NLM_F_DUMP in flags these are
// all objects of a kind, else the answer is one message.
func (s *socket) request(family byte, kind, flags uint16, attrs ...attribute) ([][]byte, error) {
	s.number++
	if err := s.send(appendMessage(nil, unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, s.number,
		appendAttributes([]byte{family, unix.NFNETLINK_V0, 0, 0}, attrs))); err != nil {
		return nil, err
	}
	var out [][]byte
	for {
		messages, err := s.receive()
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			switch {
			case m.Seq != s.number: // of a request that was given up
			case m.Type == unix.NLMSG_ERROR || m.Type == unix.NLMSG_DONE:
				if errno := m.errno(); errno != 0 {
					return nil, errno
				}
				return out, nil
			default:
				out = append(out, m.attributes())
				if flags&unix.NLM_F_DUMP == 0 {
					return out, nil
				}
			}
		}
	}
}

// dump asks for all objects of one kind, in family inet, that the attributes choose.
func (s *socket) dump(kind uint16, attrs ...attribute) ([][]byte, error) {
	return s.request(unix.NFPROTO_INET, kind, unix.NLM_F_DUMP, attrs...)
}

// appendMessage writes struct nlmsghdr, the data and the padding.
func appendMessage(b []byte, kind, flags uint16, number uint32, data []byte) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+len(data)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, number)
	b = binary.NativeEndian.AppendUint32(b, 0) // the sender, whom the kernel knows
	return appendPadded(b, data)
}

func appendPadded(b, data []byte) []byte {
	return append(append(b, data...), make([]byte, -len(data)&(unix.NLMSG_ALIGNTO-1))...)
}

// attribute of a request is a name, of which the kernel wants the terminator too.
type attribute struct {
	kind uint16
	name string
}

func appendAttributes(b []byte, attrs []attribute) []byte {
	for _, a := range attrs {
		b = binary.NativeEndian.AppendUint16(b, uint16(unix.NLA_HDRLEN+len(a.name)+1))
		b = binary.NativeEndian.AppendUint16(b, a.kind)
		b = appendPadded(b, append([]byte(a.name), 0))
	}
	return b
}

// attributes walks a list of attributes by their kinds. What is cut off ends it: the kernel writes no such lists.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.NLA_HDRLEN {
			size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
			if size < unix.NLA_HDRLEN || size > len(b) || !yield(kind&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.NLA_HDRLEN:size]) {
				return
			}
			b = b[min((size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b)):]
		}
	}
}

// nested is the first attribute of a kind in a list, nil when there is none.
func nested(b []byte, kind uint16) []byte {
	for k, value := range attributes(b) {
		if k == kind {
			return value
		}
	}
	return nil
}

// attrText is an attribute that is a string, with or without its terminator.
func attrText(b []byte) string { return strings.TrimRight(string(b), "\x00") }

// attrUint is an attribute that is a number of four or eight bytes; those of nf_tables are big-endian.
func attrUint(b []byte) uint64 {
	switch len(b) {
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	case 8:
		return binary.BigEndian.Uint64(b)
	}
	return 0
}
