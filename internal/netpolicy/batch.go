package netpolicy

import (
	"context"
	"encoding/binary"
	"io"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// batch is a list of netlink messages of which the kernel applies all or nothing.
//
// google/nftables 0.3 encodes the messages, but does not send them: it asks for an acknowledgement of each and an echo
// of each rule, and reads them one by one, which took as long as the kernel's own work.
type batch struct {
	data []byte
	last int          // offset of the message added last
	ops  []*operation // by the sequence number of their messages; nil for begin and end
}

// encode asks nothing of the kernel.
func encode(ops []operation) (*batch, error) {
	b := &batch{data: make([]byte, 0, 256*len(ops))}
	b.add(nil, unix.NFNL_MSG_BATCH_BEGIN, 0, batchMark)
	var op *operation
	c, err := nftables.New(nftables.AsLasting(), nftables.WithTestDial(func(messages []netlink.Message) ([]netlink.Message, error) {
		for _, m := range messages[1 : len(messages)-1] { // between the library's own marks
			b.add(op, uint16(m.Header.Type), uint16(m.Header.Flags&^(netlink.Acknowledge|netlink.Echo)), m.Data)
		}
		return nil, io.EOF // there are no answers to wait for
	}))
	if err != nil {
		return nil, err
	}
	for n := range ops {
		op = &ops[n]
		if err := op.apply(c); err != nil {
			return nil, err
		}
		if err := c.Flush(); err != nil {
			return nil, err
		}
	}
	b.acknowledgeLast()
	b.add(nil, unix.NFNL_MSG_BATCH_END, 0, batchMark)
	return b, nil
}

// batchMark is the struct nfgenmsg of begin and end; its resource id is big-endian.
var batchMark = []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}

func (b *batch) add(op *operation, kind, flags uint16, data []byte) {
	b.last = len(b.data)
	b.data = appendMessage(b.data, kind, flags, uint32(len(b.ops)), data)
	b.ops = append(b.ops, op)
}

func (b *batch) acknowledgeLast() {
	const flagsOffset = 6 // in struct nlmsghdr
	flags := b.data[b.last+flagsOffset:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
}

// apply returns when the kernel has applied the batch, or why it did not (see [refusals]).
//
// Errors come in the order of the messages, up to the acknowledgement of the last. One that is about the batch as a
// whole (no permission, no memory, a commit that failed) names its begin and comes first, perhaps alone: see
// nfnetlink_rcv_batch in net/netfilter/nfnetlink.c.
func (k *Kernel) apply(ctx context.Context, b *batch) error {
	s, err := k.open(ctx)
	if err != nil {
		return err
	}
	defer s.close() // with what is left to read
	if err := s.send(b.data); err != nil {
		return err
	}
	var refused refusals
	for {
		messages, err := s.receive()
		if err != nil {
			return err
		}
		for _, m := range messages {
			n := int(m.Seq)
			if m.Type != unix.NLMSG_ERROR || n >= len(b.ops) {
				continue
			}
			if errno := m.errno(); errno != 0 {
				refused.add(errno, b.ops[n])
			}
			if lastOne := len(b.ops) - 2; n == 0 || n == lastOne {
				return refused.orNil()
			}
		}
	}
}
