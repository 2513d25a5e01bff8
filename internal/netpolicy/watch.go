package netpolicy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Event is one transaction that somebody committed, or its first sign.
type Event struct {
	// Begun says that a transaction that deletes something is in force, and that what it did and who made it is still to
	// be read: a flush of 1,000 policies is told in 10,000 messages. Nothing else is set; the whole event follows.
	Begun bool
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
	socket  *socket
	unread  []message // received with what has been reported already
	current Event     // as far as it has been read
	seen    map[string]bool
	begun   bool // reported
}

// Watch begins to receive; what was committed before is not reported. The caller closes the watcher.
func (k *Kernel) Watch() (*Watcher, error) {
	s, err := k.open(context.Background())
	if err != nil {
		return nil, explain("watch nftables", err)
	}
	for _, err := range []error{s.conn.SetDeadline(time.Time{}), s.conn.JoinGroup(unix.NFNLGRP_NFTABLES)} {
		if err != nil {
			s.close()
			return nil, explain("watch nftables", err)
		}
	}
	return &Watcher{socket: s, seen: map[string]bool{}}, nil
}

// Close ends a Next that waits.
func (w *Watcher) Close() error { return w.socket.close() }

// Next waits for a transaction. The error is os.ErrClosed after Close, or that of the context.
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	stop := context.AfterFunc(ctx, func() { w.socket.close() })
	defer stop()
	for {
		for len(w.unread) > 0 {
			m := w.unread[0]
			w.unread = w.unread[1:]
			if w.add(m) {
				return w.take(), nil
			}
			if deletes(m) && !w.begun {
				w.begun = true
				return Event{Begun: true}, nil
			}
		}
		messages, err := w.socket.receive()
		switch {
		case ctx.Err() != nil:
			return Event{}, ctx.Err()
		case errors.Is(err, unix.ENOBUFS):
			w.take()
			return Event{Lost: true}, nil
		case errors.Is(err, os.ErrClosed):
			return Event{}, os.ErrClosed
		case err != nil:
			return Event{}, fmt.Errorf("cannot receive the changes of nftables: %w", err)
		}
		w.unread = messages
	}
}

// take is what has been read, and begins anew.
func (w *Watcher) take() Event {
	e := w.current
	w.current, w.begun = Event{}, false
	clear(w.seen)
	return e
}

// deletes reports whether the message says that something is gone from a table of family inet.
func deletes(m message) bool {
	if m.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.data) == 0 || m.data[0] != unix.NFPROTO_INET {
		return false
	}
	switch m.Type & 0xff {
	case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET:
		return true
	}
	return false
}

// add reads one message of a transaction; the last one names the generation that it made.
func (w *Watcher) add(m message) (done bool) {
	e := &w.current
	if m.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.data) == 0 {
		return false
	}
	if m.Type&0xff == unix.NFT_MSG_NEWGEN {
		for kind, value := range attributes(m.attributes()) {
			switch kind {
			case unix.NFTA_GEN_PROC_PID:
				e.PID = uint32(attrUint(value))
			case unix.NFTA_GEN_PROC_NAME:
				e.Process = attrText(value)
			}
		}
		return true
	}
	if m.data[0] != unix.NFPROTO_INET {
		return false
	}
	// NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, NFTA_SET_ELEM_LIST_TABLE and NFTA_OBJ_TABLE
	// are all attribute 1.
	if name := attrText(nested(m.attributes(), unix.NFTA_TABLE_NAME)); name != "" && !w.seen[name] {
		w.seen[name] = true
		e.Tables = append(e.Tables, name)
	}
	return false
}
