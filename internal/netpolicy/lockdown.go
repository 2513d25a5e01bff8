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

// CutOff loads the lockdown where a table of the rules is missing, and says whether it is loaded.
func (k *Kernel) CutOff(ctx context.Context, r Rules) (bool, error) {
	names, err := k.List(ctx)
	if err != nil {
		return false, err
	}
	for _, name := range r.tableNames() {
		if !slices.Contains(names, name) {
			_, err := k.Ensure(ctx, r.Lockdown())
			return true, err
		}
	}
	return slices.Contains(names, LockdownTable), nil
}

// Restore makes the kernel hold the tables of the rules. Where one is missing, every isolated instance is cut off
// first. It returns what it changed, besides.
func (k *Kernel) Restore(ctx context.Context, r Rules) ([]Change, error) {
	compiled := beside(r.Tables)
	locked, lockErr := k.CutOff(ctx, r) // should it fail, the policies are tried all the same
	tables, err := compiled()
	if err != nil {
		return nil, errors.Join(lockErr, err)
	}
	changes, err := k.Ensure(ctx, tables...)
	if err == nil && locked {
		lockErr = errors.Join(lockErr, k.Delete(ctx, LockdownTable))
	}
	return changes, errors.Join(lockErr, err)
}
