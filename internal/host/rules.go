package host

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/opencoded/opencoded/internal/netpolicy"
	"github.com/opencoded/opencoded/internal/plan"
)

// EnsureRules puts the guard and the egress rules of one instance into the
// kernel, from the compiled copy: it needs neither a daemon nor a valid
// inventory. Every unit calls it first, so an error keeps the instance from
// starting. It returns the tables that it had to load.
func EnsureRules(ctx context.Context, name string) ([]string, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	rules, err := compiledRules()
	if err != nil {
		return nil, err
	}
	n := slices.IndexFunc(rules.Policies, func(p netpolicy.Policy) bool { return p.Name == name })
	if n < 0 {
		return nil, fmt.Errorf("%s has no egress policy for instance %q (run `opencoded apply`)", plan.PoliciesFile, name)
	}
	if err := sameAccount(ctx, rules.Policies[n]); err != nil {
		return nil, err
	}
	tables, err := rules.TablesOf(name)
	if err != nil {
		return nil, err
	}
	unlock, err := lockRules(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	kernel, err := netpolicy.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot use nftables: %w", err)
	}
	changes, err := kernel.Ensure(ctx, tables...)
	if err != nil {
		return nil, fmt.Errorf("cannot load the egress rules of instance %q: %w", name, err)
	}
	var loaded []string
	for _, c := range changes {
		loaded = append(loaded, c.Table)
	}
	return loaded, nil
}

// compiledRules are those that the last apply left.
func compiledRules() (netpolicy.Rules, error) {
	var rules netpolicy.Rules
	if err := trusted(plan.PoliciesFile); err != nil {
		return rules, fmt.Errorf("cannot trust the compiled egress policies: %w (run `opencoded apply`)", err)
	}
	text, err := os.ReadFile(plan.PoliciesFile)
	if err != nil {
		return rules, err
	}
	if err := json.Unmarshal(text, &rules); err != nil {
		return rules, fmt.Errorf("cannot read %s: %w (run `opencoded apply`)", plan.PoliciesFile, err)
	}
	return rules, nil
}

// sameAccount makes sure that the rules match the process that is about to
// start: they go by number, systemd by name.
func sameAccount(ctx context.Context, p netpolicy.Policy) error {
	a := newAccounts()
	if err := a.read(ctx, "passwd", []string{p.User}); err != nil { // no listings: every start waits for this
		return err
	}
	switch have, ok := a.users[p.User]; {
	case !ok:
		return fmt.Errorf("there is no account %q (run `opencoded apply`)", p.User)
	case have.UID != p.UID:
		return fmt.Errorf("account %q has uid %d, but its egress rules are for uid %d (run `opencoded apply`)", p.User, have.UID, p.UID)
	}
	return nil
}
