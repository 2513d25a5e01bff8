package netpolicy

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Event is one transaction that somebody committed.
type Event struct {
	// Tables are those of family inet that it touched, in the order of its first changes. Nil with Lost.
	Tables []string
	// PID and Process are who committed it.
	PID     uint32
	Process string
	// Lost says that events went by unread, because there were too many at once: anything may have changed.
	Lost bool
}

// Watcher receives the changes of all rules in the namespace, whoever makes them.
type Watcher struct {
	conn *netlink.Conn
}

// Watch begins to receive; what was committed before is not reported. The caller closes the watcher.
func (k *Kernel) Watch() (*Watcher, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: k.netns})
	if err != nil {
		return nil, explain("watch nftables", err)
	}
	for _, err := range []error{c.SetReadBuffer(socketBuffer), c.JoinGroup(unix.NFNLGRP_NFTABLES)} {
		if err != nil {
			c.Close()
			return nil, explain("watch nftables", err)
		}
	}
	return &Watcher{c}, nil
}

// Close ends a Next that waits.
func (w *Watcher) Close() error { return w.conn.Close() }

// Next waits for a transaction. The error is os.ErrClosed after Close, or that of the context.
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	stop := context.AfterFunc(ctx, func() { w.conn.Close() })
	defer stop()
	var e Event
	seen := map[string]bool{}
	for {
		messages, err := w.conn.Receive()
		switch {
		case ctx.Err() != nil:
			return Event{}, ctx.Err()
		case errors.Is(err, unix.ENOBUFS):
			return Event{Lost: true}, nil
		case errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADF):
			return Event{}, os.ErrClosed
		case err != nil:
			return Event{}, fmt.Errorf("cannot receive the changes of nftables: %w", err)
		}
		for _, m := range messages {
			done, err := e.add(m, seen)
			if err != nil {
				return Event{}, err
			}
			if done {
				return e, nil
			}
		}
	}
}

// add reads one message of a transaction; the last one names the generation that it made.
func (e *Event) add(m netlink.Message, seen map[string]bool) (done bool, err error) {
	kind := uint16(m.Header.Type) & 0xff
	if uint16(m.Header.Type)>>8 != unix.NFNL_SUBSYS_NFTABLES {
		return false, nil
	}
	ad, err := attributes(m)
	if err != nil {
		return false, err
	}
	if kind == unix.NFT_MSG_NEWGEN {
		for ad.Next() {
			switch ad.Type() {
			case unix.NFTA_GEN_PROC_PID:
				e.PID = ad.Uint32()
			case unix.NFTA_GEN_PROC_NAME:
				e.Process = ad.String()
			}
		}
		return true, ad.Err()
	}
	if m.Data[0] != unix.NFPROTO_INET {
		return false, nil
	}
	for ad.Next() {
		// NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, NFTA_SET_ELEM_LIST_TABLE and NFTA_OBJ_TABLE
		// are all attribute 1.
		if ad.Type() == unix.NFTA_TABLE_NAME {
			if name := ad.String(); !seen[name] {
				seen[name] = true
				e.Tables = append(e.Tables, name)
			}
		}
	}
	return false, ad.Err()
}
