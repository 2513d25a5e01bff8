package host

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/netpolicy"
	"github.com/opencoded/opencoded/internal/plan"
)

// EnsureRules puts the guard and the egress rules of one instance into the
// kernel, from the compiled copy: it needs neither a daemon nor a valid
// inventory. Every unit calls it first, so an error keeps the instance from
// starting. It returns the tables that it had to load.
func EnsureRules(ctx context.Context, name string) ([]string, error) {
	rules, err := CompiledRules()
	if err != nil {
		return nil, err
	}
	policy, err := policyOf(rules, name)
	if err != nil {
		return nil, err
	}
	if err := sameAccount(ctx, policy); err != nil {
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

// CompiledRules reads the policies that the last apply left.
func CompiledRules() (rules netpolicy.Rules, err error) {
	if os.Geteuid() != 0 {
		return rules, ErrNotRoot
	}
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

func policyOf(rules netpolicy.Rules, name string) (netpolicy.Policy, error) {
	n := slices.IndexFunc(rules.Policies, func(p netpolicy.Policy) bool { return p.Name == name })
	if n < 0 {
		return netpolicy.Policy{}, fmt.Errorf("%s has no egress policy for instance %q (run `opencoded apply`)", plan.PoliciesFile, name)
	}
	return rules.Policies[n], nil
}

// Loaded is one of the tables that the rules want, and how the kernel differs.
type Loaded struct {
	Table  string   `json:"table"`
	Text   string   `json:"text"`
	Differ []string `json:"differs,omitempty"`
}

// LoadedRules compares the tables that an instance needs, or with an empty name
// all of them, with what the kernel holds.
func LoadedRules(ctx context.Context, name string) (netpolicy.Rules, []Loaded, map[string]netpolicy.Counts, error) {
	rules, err := CompiledRules()
	if err != nil {
		return rules, nil, nil, err
	}
	tables, err := rules.Tables()
	if name != "" && err == nil {
		if _, err = policyOf(rules, name); err == nil {
			tables, err = rules.TablesOf(name)
		}
	}
	if err != nil {
		return rules, nil, nil, err
	}
	kernel, err := netpolicy.Open(ctx)
	if err != nil {
		return rules, nil, nil, fmt.Errorf("cannot use nftables: %w", err)
	}
	have, err := kernel.ReadAll(ctx)
	if err != nil {
		return rules, nil, nil, err
	}
	var out []Loaded
	for _, t := range tables {
		l := Loaded{Table: t.Name, Text: t.String(), Differ: []string{"table inet " + t.Name + " missing"}}
		if h, found := have[t.Name]; found {
			l.Differ = slices.Collect(strings.SplitSeq(netpolicy.Diff(t, h), "\n"))
			l.Differ = slices.DeleteFunc(l.Differ, func(s string) bool { return s == "" })
		}
		out = append(out, l)
	}
	counts, err := kernel.Counts(ctx)
	return rules, out, counts, err
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
