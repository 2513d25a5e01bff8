package netpolicy

import (
	"context"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Kernel is the nftables of one network namespace. It holds no connection and no state: every method asks the
// kernel anew, and may be called from several goroutines. A deadline of ctx ends a method, else 30 seconds do.
type Kernel struct {
	netns int // file descriptor, 0: the caller's own
}

// Open gives access to the rules of the caller's network namespace. It fails, with what is missing, where the
// kernel has no nf_tables or the process no CAP_NET_ADMIN.
func Open(ctx context.Context) (*Kernel, error) { return OpenNetNS(ctx, 0) }

// OpenNetNS is Open for the network namespace that fd refers to; fd must stay open as long as the Kernel is used.
func OpenNetNS(ctx context.Context, fd int) (*Kernel, error) {
	k := &Kernel{netns: fd}
	if _, err := k.generation(ctx); err != nil {
		return nil, explain("use nftables", err)
	}
	return k, nil
}

const (
	// socketBuffer is large enough for one batch of 1,000 instances or 10,000 prefixes and for the kernel's
	// acknowledgements of it; with the default "message too long" or ENOBUFS comes back. It is a bound, not an
	// allocation.
	socketBuffer = 64 << 20
	// defaultTimeout ends a wait for an answer that the kernel does not give.
	defaultTimeout = 30 * time.Second
)

// prepare is run on every netlink socket.
func prepare(ctx context.Context) nftables.SockOption {
	return func(c *netlink.Conn) error {
		deadline, ok := ctx.Deadline()
		if !ok {
			deadline = time.Now().Add(defaultTimeout)
		}
		for _, err := range []error{
			ctx.Err(), c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer), c.SetDeadline(deadline),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// conn opens a socket per request or batch: after a failed batch more answers may be waiting than the library
// reads, and they must not be taken for those of the next.
func (k *Kernel) conn(ctx context.Context) *nftables.Conn {
	c, _ := nftables.New(nftables.WithNetNSFd(k.netns), nftables.WithSockOptions(prepare(ctx))) // fails only as lasting
	return c
}

func (k *Kernel) sender(ctx context.Context) func() *nftables.Conn {
	return func() *nftables.Conn { return k.conn(ctx) }
}

// lasting is one socket for many requests that only read.
func (k *Kernel) lasting(ctx context.Context) (*nftables.Conn, error) {
	return nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(k.netns), nftables.WithSockOptions(prepare(ctx)))
}

// dump asks for all objects of one kind, in family inet, of one table or (table "") of all.
func (k *Kernel) dump(ctx context.Context, kind uint16, table string) ([]netlink.Message, error) {
	var attrs []byte
	if table != "" {
		// NFTA_SET_TABLE and NFTA_RULE_TABLE are both attribute 1.
		var err error
		attrs, err = netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_SET_TABLE, Data: []byte(table + "\x00")}})
		if err != nil {
			return nil, err
		}
	}
	return k.request(ctx, kind, netlink.Dump, attrs)
}

// generation is a number that grows with every change of any rule in the namespace.
func (k *Kernel) generation(ctx context.Context) (uint32, error) {
	messages, err := k.request(ctx, unix.NFT_MSG_GETGEN, 0, nil)
	if err != nil {
		return 0, err
	}
	for _, m := range messages {
		ad, err := attributes(m)
		if err != nil {
			return 0, err
		}
		for ad.Next() {
			if ad.Type() == unix.NFTA_GEN_ID {
				return ad.Uint32(), ad.Err()
			}
		}
	}
	return 0, fmt.Errorf("the kernel names no generation of its rules")
}

// request is for what google/nftables cannot ask or decodes with losses, in family inet.
func (k *Kernel) request(ctx context.Context, kind uint16, flags netlink.HeaderFlags, attrs []byte) ([]netlink.Message, error) {
	return k.requestFamily(ctx, unix.NFPROTO_INET, kind, flags, attrs)
}

func (k *Kernel) requestFamily(ctx context.Context, family byte, kind uint16, flags netlink.HeaderFlags, attrs []byte) ([]netlink.Message, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: k.netns})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := prepare(ctx)(c); err != nil {
		return nil, err
	}
	nfgenmsg := []byte{family, unix.NFNETLINK_V0, 0, 0}
	return c.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags},
		Data:   append(nfgenmsg, attrs...),
	})
}

// steady runs read until the rules did not change while it ran: a policy is several requests, and a dump of half
// the old and half the new table is no table at all.
func (k *Kernel) steady(ctx context.Context, read func() error) error {
	for range 100 {
		before, err := k.generation(ctx)
		if err != nil {
			return err
		}
		readErr := read()
		after, err := k.generation(ctx)
		switch {
		case err != nil:
			return err
		case before == after:
			return readErr
		}
	}
	return fmt.Errorf("the rules changed 100 times while they were read (is something rewriting them in a loop?)")
}
