package netpolicy

import (
	"context"
	"fmt"

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

// generation is a number that grows with every change of any rule in the namespace.
func (k *Kernel) generation(ctx context.Context) (uint32, error) {
	s, err := k.open(ctx)
	if err != nil {
		return 0, err
	}
	defer s.close()
	return s.generation()
}

func (s *socket) generation() (uint32, error) {
	answers, err := s.request(unix.NFPROTO_INET, unix.NFT_MSG_GETGEN, 0)
	if err != nil {
		return 0, err
	}
	for _, a := range answers {
		if id := nested(a, unix.NFTA_GEN_ID); id != nil {
			return uint32(attrUint(id)), nil
		}
	}
	return 0, fmt.Errorf("the kernel names no generation of its rules")
}

// steady runs read until the rules did not change while it ran: a policy is several requests, and a dump of half
// the old and half the new table is no table at all.
func (k *Kernel) steady(ctx context.Context, read func(*socket) error) error {
	for range 100 {
		steady, err := k.steadyOnce(ctx, read)
		if steady || err != nil {
			return err
		}
	}
	return fmt.Errorf("the rules changed 100 times while they were read (is something rewriting them in a loop?)")
}

// steadyOnce has a socket of its own, as a request that failed may leave answers behind.
func (k *Kernel) steadyOnce(ctx context.Context, read func(*socket) error) (steady bool, err error) {
	s, err := k.open(ctx)
	if err != nil {
		return false, err
	}
	defer s.close()
	before, err := s.generation()
	if err != nil {
		return false, err
	}
	readErr := read(s)
	after, err := s.generation()
	if err != nil || before != after {
		return false, err
	}
	return true, readErr
}

// beside runs f beside the caller, who asks for the result when it is needed.
func beside[T any](f func() (T, error)) func() (T, error) {
	var value T
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		value, err = f()
	}()
	return func() (T, error) {
		<-done
		return value, err
	}
}
