package netpolicy

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Change is a table that Ensure wrote, and the difference that it found (see [Diff]).
type Change struct {
	Table string
	Diff  string
}

// Ensure writes the tables that differ from what the kernel holds, in the order given, and says which. A table that
// fails does not keep the others from being written.
//
// Each table is one netlink batch: a packet sees the old policy or the new one, flows that both allow are not
// disturbed, and counters keep counting through it. Afterwards the table is read back and compared. A table of that
// name without opencoded's marker is left alone and is an error (ErrForeign).
func (k *Kernel) Ensure(ctx context.Context, tables ...Table) ([]Change, error) {
	var changes []Change
	var errs []error
	for _, t := range tables {
		diff, err := k.converge(ctx, t)
		if err != nil {
			errs = append(errs, explain("write table inet "+t.Name, err))
		} else if diff != "" {
			changes = append(changes, Change{t.Name, diff})
		}
	}
	return changes, errors.Join(errs...)
}

// Delete removes tables of opencoded's. One that does not exist is no error, one without the marker is.
func (k *Kernel) Delete(ctx context.Context, names ...string) error {
	var errs []error
	for _, name := range names {
		if err := k.delete(ctx, name); err != nil {
			errs = append(errs, explain("delete table inet "+name, err))
		}
	}
	return errors.Join(errs...)
}

func (k *Kernel) delete(ctx context.Context, name string) error {
	t, found, err := k.read(ctx, name)
	if err != nil || !found {
		return err
	}
	if !t.marked() {
		return foreign(name)
	}
	tx := newTransaction(name)
	tx.deleteTable()
	if err := tx.commit(k.conn(ctx)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Diff compares a table with what the kernel holds: "" when it holds exactly this, else one difference a line.
func (k *Kernel) Diff(ctx context.Context, want Table) (string, error) {
	have, found, err := k.Read(ctx, want.Name)
	switch {
	case err != nil:
		return "", err
	case !found:
		return missingTable(want), nil
	}
	return Diff(want, have), nil
}

func missingTable(want Table) string { return fmt.Sprintf("table inet %s missing", want.Name) }

// attempts is how often a table is read and written anew when other processes write it at the same time: after a
// flush, every starting unit ensures the guard.
const attempts = 10

// converge makes the kernel hold want and returns the difference it first found.
func (k *Kernel) converge(ctx context.Context, want Table) (first string, err error) {
	for attempt := range attempts {
		have, found, readErr := k.read(ctx, want.Name)
		if readErr != nil {
			return "", readErr
		}
		diff := missingTable(want)
		if found {
			diff = Diff(want, have)
		}
		if diff == "" {
			return first, nil
		}
		if first == "" {
			first = diff
		}
		if err = k.write(ctx, have, found, want, attempt >= attempts/2); err != nil && !retriable(err) {
			return "", err
		}
		if err == nil {
			err = fmt.Errorf("the kernel took it but holds something else:\n%s", diff)
		}
	}
	return "", err
}

// write sends one batch; a table that somebody sent to sleep is woken first.
func (k *Kernel) write(ctx context.Context, have Table, found bool, want Table, fresh bool) error {
	if !found {
		return replacement(nil, want, false).commit(k.conn(ctx))
	}
	if !have.marked() {
		return foreign(want.Name)
	}
	if have.Flags != "" {
		tx := newTransaction(want.Name)
		tx.wakeTable()
		if err := tx.commit(k.conn(ctx)); err != nil {
			return err
		}
	}
	tx := replacement(&have, want, fresh)
	if tx.err != nil { // a hand-made element that cannot be named to delete it
		tx = replacement(&have, want, true)
	}
	return tx.commit(k.conn(ctx))
}

// retriable reports whether a batch failed because it was made for a table that somebody else has changed since.
// A batch that fails for another reason carries ENOENT too, from the operations on what could not be made.
func retriable(err error) bool {
	for _, cause := range []error{unix.E2BIG, unix.EPERM, unix.ENOMEM, unix.EINVAL, unix.EOPNOTSUPP} {
		if errors.Is(err, cause) {
			return false
		}
	}
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY)
}
