package netpolicy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Change is a table that Ensure wrote, or could not.
type Change struct {
	Table string
	Diff  string // what it first found, see [Diff]
	Err   error
}

func tableNames(tables []Table) []string {
	out := make([]string, len(tables))
	for n, t := range tables {
		out[n] = t.Name
	}
	return out
}

// attempts is how often a table is read and written anew when other processes write it at the same time: after a
// flush, every starting unit ensures the guard.
const attempts = 10

// Ensure writes the tables that differ from what the kernel holds, in the order given, and says which. A table that
// fails does not keep the others from being written; the error joins those of the changes.
//
// Each table is one netlink batch: a packet sees the old policy or the new one, flows that both allow are not
// disturbed, and counters keep counting through it. Afterwards the tables are read back and compared. A table of
// that name without opencoded's marker is left alone and is an error (ErrForeign).
func (k *Kernel) Ensure(ctx context.Context, tables ...Table) ([]Change, error) {
	var changes []Change
	index := map[string]int{} // of each table's change
	for attempt := range attempts {
		have, err := k.read(ctx, tableNames(tables)...)
		if err != nil {
			return changes, explain("read tables", err)
		}
		var writes []pending
		for _, want := range tables {
			diff := missingTable(want)
			h, found := have[want.Name]
			if found {
				diff = Diff(want, h)
			}
			if diff == "" {
				if n, changed := index[want.Name]; changed {
					changes[n].Err = nil
				}
				continue
			}
			if _, again := index[want.Name]; !again {
				index[want.Name] = len(changes)
				changes = append(changes, Change{Table: want.Name, Diff: diff})
			}
			writes = append(writes, pending{want, diff, prepare(h, found, want, attempt >= attempts/2)})
		}
		var differ []Table
		for _, w := range writes {
			err := w.write(ctx, k)
			if err == nil || retriable(err) {
				differ = append(differ, w.want)
			}
			if err == nil {
				err = fmt.Errorf("the kernel took it but holds something else:\n%s", w.diff)
			}
			changes[index[w.want.Name]].Err = explain("write table inet "+w.want.Name, err)
		}
		if tables = differ; len(tables) == 0 {
			break
		}
	}
	var errs []error
	for _, c := range changes {
		errs = append(errs, c.Err)
	}
	return changes, errors.Join(errs...)
}

// EnsurePart is Ensure of the tables that one instance needs before it starts (see [Rules.TablesOf]). It reads only what
// that instance's packets pass, which with a thousand others in the same tables is a fraction; where anything of it
// differs, the tables are read and written whole. It remembers nothing: the kernel is asked each time.
func (k *Kernel) EnsurePart(ctx context.Context, r Rules, name string) ([]Change, error) {
	if held, err := k.HoldsPart(ctx, r, name); held || err != nil {
		return nil, err
	}
	tables, err := r.TablesOf(name)
	if err != nil {
		return nil, err
	}
	return k.Ensure(ctx, tables...)
}

// HoldsPart reports whether the kernel holds all that the packets of an instance have to pass.
func (k *Kernel) HoldsPart(ctx context.Context, r Rules, name string) (bool, error) {
	parts, err := r.partsOf(name)
	if err != nil {
		return false, err
	}
	held, err := k.holds(ctx, parts)
	return held, explain("read tables", err)
}

// holds compares parts of tables.
func (k *Kernel) holds(ctx context.Context, parts []Table) (held bool, err error) {
	err = k.steady(ctx, func(s *socket) error {
		held = false
		for _, want := range parts {
			have, err := s.part(want)
			if errors.Is(err, unix.ENOENT) || err == nil && Diff(want, have) != "" {
				return nil
			}
			if err != nil {
				return err
			}
		}
		held = true
		return nil
	})
	return held, err
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
	there, ours := true, false
	err := k.steady(ctx, func(s *socket) error {
		_, err := s.tableFlags(name)
		if there = !errors.Is(err, unix.ENOENT); err != nil {
			return err
		}
		names, err := s.marked()
		ours = slices.Contains(names, name)
		return err
	})
	switch {
	case !there:
		return nil
	case err != nil:
		return err
	case !ours:
		return foreign(name)
	}
	tx := newTransaction(name)
	tx.deleteTable()
	if err := tx.commit(ctx, k); !errors.Is(err, os.ErrNotExist) {
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

// pending is a table that has to be written.
type pending struct {
	want  Table
	diff  string
	write func(context.Context, *Kernel) error
}

// prepare begins to encode what makes a table as it is wanted, and returns what sends it; a table that somebody sent to
// sleep is woken first.
func prepare(have Table, found bool, want Table, fresh bool) func(context.Context, *Kernel) error {
	if found && !have.marked() {
		return func(context.Context, *Kernel) error { return foreign(want.Name) }
	}
	var old *Table
	if found {
		old = &have
	}
	tx := replacement(old, want, fresh)
	if tx.err != nil && found { // a hand-made element that cannot be named to delete it
		tx = replacement(old, want, true)
	}
	send := tx.prepare()
	if have.Flags == "" {
		return send
	}
	return func(ctx context.Context, k *Kernel) error {
		tx := newTransaction(want.Name)
		tx.wakeTable()
		if err := tx.commit(ctx, k); err != nil {
			return err
		}
		return send(ctx, k)
	}
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
