package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
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
	gone   []string    // instances whose account was gone at the last restoration
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
// off before anything that takes longer. Policies whose account is gone are taken
// out of the kernel, see abandoned.
func (k *RuleKeeper) Restore(ctx context.Context) ([]netpolicy.Change, error) {
	unlock, err := lockRules(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := k.read(); err != nil {
		return nil, err
	}
	_, cutErr := k.cutOff(ctx)
	if k.gone, err = abandoned(ctx, k.rules.Policies); err != nil {
		return nil, errors.Join(cutErr, err)
	}
	rules := k.rules.Without(k.gone)
	changes, err := k.kernel.Restore(ctx, rules)
	if len(k.gone) > 0 {
		removed, removeErr := k.remove(ctx, rules)
		changes, err = append(changes, removed...), errors.Join(err, removeErr)
	}
	return changes, errors.Join(cutErr, err)
}

// CutOff is the beginning of Restore: where a table is missing, it drops what isolated instances send, and says so. What
// is cut off stays so until Restore.
func (k *RuleKeeper) CutOff(ctx context.Context) (bool, error) {
	unlock, err := lockRules(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	if err := k.read(); err != nil {
		return false, err
	}
	return k.cutOff(ctx)
}

func (k *RuleKeeper) cutOff(ctx context.Context) (bool, error) {
	return k.kernel.CutOff(ctx, k.rules.Without(k.gone))
}

// remove deletes the tables that nothing needs without the policies that are gone.
func (k *RuleKeeper) remove(ctx context.Context, left netpolicy.Rules) ([]netpolicy.Change, error) {
	all, err := k.rules.Tables()
	if err != nil {
		return nil, err
	}
	needed, err := left.Tables()
	if err != nil {
		return nil, err
	}
	loaded, err := k.kernel.List(ctx)
	if err != nil {
		return nil, err
	}
	var changes []netpolicy.Change
	for _, t := range all {
		isIt := func(other netpolicy.Table) bool { return other.Name == t.Name }
		if slices.ContainsFunc(needed, isIt) || !slices.Contains(loaded, t.Name) {
			continue
		}
		err := k.kernel.Delete(ctx, t.Name)
		changes = append(changes, netpolicy.Change{Table: t.Name, Err: err, Diff: "table inet " + t.Name + " removed: no account of " + strings.Join(k.gone, ", ")})
	}
	var errs []error
	for _, c := range changes {
		errs = append(errs, c.Err)
	}
	return changes, errors.Join(errs...)
}

// abandoned names the instances whose rules would match somebody else, or may do so
// any time: their user id belongs to another account, or to none and no process.
// What still runs with an id that nobody has keeps its rules.
func abandoned(ctx context.Context, policies []netpolicy.Policy) ([]string, error) {
	var users []string
	for _, p := range policies {
		users = append(users, p.User)
	}
	a := newAccounts()
	if err := a.read(ctx, "passwd", users); err != nil {
		return nil, err
	}
	var names, ids []string
	var suspects []netpolicy.Policy
	for _, p := range policies {
		if have, ok := a.users[p.User]; !ok || have.UID != p.UID {
			suspects = append(suspects, p)
			ids = append(ids, strconv.FormatUint(uint64(p.UID), 10))
		}
	}
	if len(suspects) == 0 {
		return nil, nil
	}
	if err := a.read(ctx, "passwd", ids); err != nil { // getent finds an account by its id too
		return nil, err
	}
	for _, p := range suspects {
		pids, err := processesOf(p.UID)
		if err != nil {
			return nil, err
		}
		if a.taken[p.UID] || len(pids) == 0 {
			names = append(names, p.Name)
		}
	}
	return names, nil
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
