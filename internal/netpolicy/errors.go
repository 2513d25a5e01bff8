package netpolicy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrForeign is the cause when a table has one of opencoded's names but not its marker.
var ErrForeign = errors.New("not opencoded's table")

func foreign(name string) error {
	return fmt.Errorf("%w: a table of that name exists without the set %q that marks opencoded's "+
		"(rename it, or delete it with: nft delete table inet %s)", ErrForeign, markerSet, name)
}

// remedies say what a kernel error means here. The kernel's own words for them mislead ("no such file or
// directory" for a missing module).
var remedies = []struct {
	errno  unix.Errno
	remedy string
}{
	{unix.EPERM, "CAP_NET_ADMIN is missing (run as root, or in a container grant the capability)"},
	{unix.EPROTONOSUPPORT, noNfTables}, // socket(2): no nfnetlink at all
	{unix.EAFNOSUPPORT, noNfTables},
	{unix.EOPNOTSUPP, noNfTables}, // nfnetlink without the nf_tables subsystem
	{unix.EINVAL, "the kernel refuses the request: it has no nf_tables (modprobe nf_tables) or is older than 5.6"},
	{unix.E2BIG, "the kernel takes at most 1,024 base chains on a hook, those of other programs included " +
		"(count them: nft list chains | grep -c 'hook output')"},
	{unix.EBUSY, "something else holds on to the table (look at: nft list ruleset)"},
	{unix.ENOBUFS, "the socket buffers are too small (outside of the first user namespace: raise net.core.rmem_max and wmem_max)"},
	{unix.EMSGSIZE, "the socket buffers are too small (outside of the first user namespace: raise net.core.rmem_max and wmem_max)"},
	{unix.ENOMEM, "the kernel has no memory for it"},
	// Last, as every operation on something that could not be made fails with it too.
	{unix.ENOENT, "the kernel lacks a module that the rules need (modprobe nft_ct nft_fib_inet nft_limit nft_log nft_reject_inet)"},
}

// refusals are the causes for which the kernel did not apply a batch, each with the first operation that met it.
type refusals []refusal

type refusal struct {
	errno unix.Errno
	op    *operation // nil: the batch as a whole
}

func (r *refusals) add(errno unix.Errno, op *operation) {
	if r.of(errno) == nil {
		*r = append(*r, refusal{errno, op})
	}
}

// orNil is the error of a batch.
func (r refusals) orNil() error {
	if len(r) == 0 {
		return nil
	}
	return r
}

// of is the refusal for one cause, nil when there is none.
func (r refusals) of(errno unix.Errno) error {
	for _, one := range r {
		if one.errno == errno {
			return one
		}
	}
	return nil
}

func (r refusal) Unwrap() error { return r.errno }

func (r refusal) Error() string {
	if r.op == nil {
		return r.errno.Error()
	}
	what := r.op.text()
	if most := 200; len(what) > most { // it may add hundreds of elements
		what = what[:most] + "…"
	}
	return what + ": " + r.errno.Error()
}

func (r refusals) Unwrap() []error {
	out := make([]error, len(r))
	for n, one := range r {
		out[n] = one
	}
	return out
}

func (r refusals) Error() string { return errors.Join(r.Unwrap()...).Error() }

const noNfTables = "the kernel has no nf_tables (modprobe nf_tables; a kernel image without the module needs the full package, on Debian linux-image-amd64)"

// explain says what could not be done and, for the kernel's errors, why and what to do.
func explain(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("cannot %s: the kernel gave no answer in time: %w", what, errors.Join(err, context.DeadlineExceeded))
	}
	for _, r := range remedies {
		if !errors.Is(err, r.errno) {
			continue
		}
		var cause error = r.errno
		if refused := (refusals)(nil); errors.As(err, &refused) {
			cause = cmp.Or(refused.of(r.errno), cause)
		}
		return fmt.Errorf("cannot %s: %s: %w", what, r.remedy, cause)
	}
	return fmt.Errorf("cannot %s: %w", what, err)
}
