package netpolicy

import (
	"context"
	"errors"
	"slices"
)

// LockdownTable stands in while other tables are restored. No instance can have the name.
const LockdownTable = "opencoded-lockdown"

// Lockdown drops all that isolated instances send, but for answers to their clients: one small table that loads in a
// fraction of the time that all policies take. It has no counters and no log; what it drops is sent again.
func (r Rules) Lockdown() Table {
	isolated := Set{Name: "isolated", Type: "uid"}
	var uids []uint32
	for _, p := range r.isolated() {
		if !p.Report {
			uids = append(uids, p.UID)
		}
	}
	slices.Sort(uids)
	for _, uid := range uids {
		isolated.Elements = append(isolated.Elements, uidText(uid))
	}
	return Table{
		Name: LockdownTable,
		Sets: []Set{marker, isolated},
		Chains: []Chain{
			outputChain(rule(Lookup{"meta skuid", isolated.Name}, goTo("locked"))),
			{Name: "locked", Rules: []Rule{
				note("answers to clients that connected to the instance", Match{"ct direction", "reply"}, accept),
				rule(drop),
			}},
		},
	}
}

// Restore makes the kernel hold the tables of the rules. Where one is missing, every isolated instance is cut off
// first. It returns what it changed, besides.
func (k *Kernel) Restore(ctx context.Context, r Rules) ([]Change, error) {
	tables, err := r.Tables()
	if err != nil {
		return nil, err
	}
	names, err := k.List(ctx)
	if err != nil {
		return nil, err
	}
	locked := false
	for _, t := range tables {
		if locked = !slices.Contains(names, t.Name); locked {
			break
		}
	}
	var lockErr error
	if locked {
		// Should it fail, the policies are tried all the same.
		_, lockErr = k.Ensure(ctx, r.Lockdown())
	}
	changes, err := k.Ensure(ctx, tables...)
	if err == nil && (locked || slices.Contains(names, LockdownTable)) {
		lockErr = errors.Join(lockErr, k.Delete(ctx, LockdownTable))
	}
	return changes, errors.Join(lockErr, err)
}
