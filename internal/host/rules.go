package host

import (
	"context"
	"encoding/json"
	"errors"
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
	rules, err := rulesFor(ctx, name)
	if err != nil {
		return nil, err
	}
	kernel, err := netpolicy.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot use nftables: %w", err)
	}
	// Only who writes takes the lock: a thousand units that start after a boot need
	// not wait for each other.
	held, err := kernel.HoldsPart(ctx, rules, name)
	if err != nil {
		return nil, fmt.Errorf("cannot read the egress rules of instance %q: %w", name, err)
	}
	if held {
		return nil, nil
	}
	unlock, err := lockRules(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if rules, err = rulesFor(ctx, name); err != nil { // those of an apply that held the lock
		return nil, err
	}
	changes, err := kernel.EnsurePart(ctx, rules, name)
	if err != nil {
		return nil, fmt.Errorf("cannot load the egress rules of instance %q: %w", name, err)
	}
	var loaded []string
	for _, c := range changes {
		loaded = append(loaded, c.Table)
	}
	return loaded, nil
}

// rulesFor are the compiled rules, which hold a policy of the instance and of its
// account as it is.
func rulesFor(ctx context.Context, name string) (netpolicy.Rules, error) {
	rules, err := CompiledRules()
	if err != nil {
		return rules, err
	}
	policy, err := policyOf(rules, name)
	if err != nil {
		return rules, err
	}
	return rules, sameAccount(ctx, policy)
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

// RuleKeeper holds the rules of the last apply in the kernel.
type RuleKeeper struct {
	kernel *netpolicy.Kernel
	rules  netpolicy.Rules
	stamp  os.FileInfo // of the file that the rules were read from
}

// NewRuleKeeper opens access to the kernel's rules.
func NewRuleKeeper(ctx context.Context) (*RuleKeeper, error) {
	kernel, err := netpolicy.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot use nftables: %w", err)
	}
	return &RuleKeeper{kernel: kernel}, nil
}

// Watch reports every change of rules.
func (k *RuleKeeper) Watch() (*netpolicy.Watcher, error) { return k.kernel.Watch() }

// Restore makes the kernel hold the rules of the last apply, which is nothing
// where there was none. Where tables are missing the isolated instances are cut
// off before anything that takes longer. A policy whose account is gone, or has
// another id, is left out: its rules would be somebody else's.
func (k *RuleKeeper) Restore(ctx context.Context) ([]netpolicy.Change, error) {
	unlock, err := lockRules(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := k.read(); err != nil {
		return nil, err
	}
	_, cutErr := k.kernel.CutOff(ctx, k.rules)
	rules := k.rules
	users := make([]string, len(rules.Policies))
	for n, p := range rules.Policies {
		users[n] = p.User
	}
	a := newAccounts()
	if err := a.read(ctx, "passwd", users); err != nil {
		return nil, errors.Join(cutErr, err)
	}
	rules.Policies = slices.DeleteFunc(slices.Clone(rules.Policies), func(p netpolicy.Policy) bool {
		have, ok := a.users[p.User]
		return !ok || have.UID != p.UID
	})
	changes, err := k.kernel.Restore(ctx, rules)
	return changes, errors.Join(cutErr, err)
}

// read reads the compiled rules where they have changed.
func (k *RuleKeeper) read() error {
	info, err := os.Stat(plan.PoliciesFile)
	if isNotExist(err) {
		k.rules, k.stamp = netpolicy.Rules{}, nil
		return nil
	}
	if err == nil && k.stamp != nil && os.SameFile(info, k.stamp) && info.ModTime().Equal(k.stamp.ModTime()) {
		return nil // it is replaced as a whole, never written into
	}
	rules, err := CompiledRules()
	if err == nil {
		k.rules, k.stamp = rules, info
	}
	return err
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
