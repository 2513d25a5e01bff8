package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/internal/sandbox"
)

// Survey is the inventory held against the host: what is wanted, what is there,
// and the difference.
type Survey struct {
	Inventory *instance.Inventory
	Facts     plan.Facts
	Desired   plan.Desired
	Observed  plan.Observed
	Plan      plan.Plan

	shape func(plan.Plan, plan.Observed) plan.Plan
}

// Shape takes something out of the plan, or adds to it, and does the same whenever an apply has to survey again.
func (s *Survey) Shape(f func(plan.Plan, plan.Observed) plan.Plan) {
	s.shape, s.Plan = f, f(s.Plan, s.Observed)
}

// Survey reads the host and plans. Findings about the inventory come back with
// their place; with an error among them there is no plan, and nothing was or
// will be touched.
func (h *Host) Survey(ctx context.Context, inv *instance.Inventory) (*Survey, document.Diagnostics, error) {
	facts, problems, err := h.Facts(ctx, inv)
	if err != nil || len(problems.Errors()) > 0 {
		return nil, problems, err
	}
	desired, more := plan.Desire(inv, facts)
	problems = append(problems, more...)
	if len(problems.Errors()) > 0 {
		return nil, problems, nil
	}
	observed, err := h.observe(ctx, inv, facts, desired)
	if err != nil {
		return nil, problems, err
	}
	return &Survey{
		Inventory: inv, Facts: facts, Desired: desired, Observed: observed, Plan: plan.Diff(desired, observed),
	}, problems, nil
}

// observe reads everything that desired speaks of, and what is left of
// instances that are no longer wanted.
func (h *Host) observe(ctx context.Context, inv *instance.Inventory, facts plan.Facts, desired plan.Desired) (plan.Observed, error) {
	o := plan.Observed{
		Openings: held(facts.Firewalls),

		Paths:  map[string]plan.Path{},
		Units:  map[string]plan.Unit{},
		Stale:  map[string][]string{},
		Strays: map[string][]string{},
	}
	if err := observePaths(desired, &o); err != nil {
		return o, err
	}
	if err := h.observeTables(ctx, &o); err != nil {
		return o, err
	}
	if err := observeQuotas(desired, &o); err != nil {
		return o, err
	}
	for _, t := range desired.Targets {
		u, err := h.Unit(ctx, t.Instance.ServiceName(), inv.Host.UnitDir)
		if err != nil {
			return o, err
		}
		o.Units[t.Instance.ServiceName()] = u.Unit
	}
	return o, h.observeLeftovers(ctx, inv, facts.Accounts, &o)
}

// observePaths looks at every path that desired names.
func observePaths(d plan.Desired, o *plan.Observed) error {
	see := func(path string, read bool) error {
		found, err := look(path, read)
		if err != nil {
			return fmt.Errorf("cannot look at %s: %w", path, err)
		}
		o.Paths[path] = found
		return nil
	}
	all := func(dirs []plan.Dir, files ...plan.File) error {
		for _, dir := range dirs {
			if err := see(dir.Path, false); err != nil {
				return err
			}
		}
		for _, f := range files {
			if err := see(f.Path, true); err != nil {
				return err
			}
		}
		return nil
	}
	if err := all(d.Dirs, d.Files...); err != nil {
		return err
	}
	for _, t := range d.Targets {
		err := errors.Join(
			all(t.Dirs, t.Files...), all(nil, t.Units...),
			see(filepath.Join(t.Link.Below, t.Link.Name), false),
			observeStrays(t, o),
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// observeStrays finds what stands in an instance's own tree of configuration and
// is not wanted there, the deepest first.
func observeStrays(t plan.Target, o *plan.Observed) error {
	wanted := map[string]bool{t.Tree: true}
	for _, d := range t.Dirs {
		wanted[d.Path] = true
	}
	for _, f := range t.Files {
		wanted[f.Path] = true
	}
	var strays []string
	err := filepath.WalkDir(t.Tree, func(path string, _ fs.DirEntry, err error) error {
		if isNotExist(err) {
			return nil
		}
		if err == nil && !wanted[path] {
			strays = append(strays, path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot look at %s: %w", t.Tree, err)
	}
	slices.Reverse(strays)
	if len(strays) > 0 {
		o.Strays[t.Instance.Name] = strays
	}
	return nil
}

func (h *Host) observeTables(ctx context.Context, o *plan.Observed) error {
	var err error
	if o.Tables, err = h.kernel.ReadAll(ctx); err != nil {
		return err
	}
	o.Counts, err = h.kernel.Counts(ctx)
	return err
}

// observeLeftovers finds what belongs to instances that the inventory does not
// enable: marked unit files, in either directory that systemd reads, egress
// tables, openings in a firewall, limits of state directories. Unit files of enabled ones in the other directory are stale.
func (h *Host) observeLeftovers(ctx context.Context, inv *instance.Inventory, accounts map[string]plan.Account, o *plan.Observed) error {
	left := map[string]*plan.Leftover{}
	get := func(name string) *plan.Leftover {
		if left[name] == nil {
			left[name] = &plan.Leftover{Name: name}
		}
		return left[name]
	}
	wanted := map[string]bool{}
	for _, i := range inv.Enabled() {
		wanted[i.Name] = true
	}
	for _, dir := range unitDirs {
		files, err := unitFiles(dir)
		if err != nil {
			return err
		}
		for _, path := range files {
			name := unitInstance(filepath.Base(path))
			switch {
			case !wanted[name]:
				get(name).Files = append(get(name).Files, path)
			case dir != inv.Host.UnitDir:
				o.Stale[name] = append(o.Stale[name], path)
			}
		}
		if dir != inv.Host.UnitDir {
			staleLinks(inv, dir, o)
		}
	}
	for table := range o.Tables {
		if name, ok := strings.CutPrefix(table, "opencode-"); ok && !wanted[name] {
			get(name).Table = true
		}
	}
	for name := range o.Openings {
		if !wanted[name] {
			get(name)
		}
	}
	quotas, err := leftQuotas(inv, accounts, wanted)
	if err != nil {
		return err
	}
	for name, q := range quotas {
		get(name).Quota = q
	}
	for _, l := range left {
		for _, name := range []string{instance.ServiceName(l.Name), instance.SetupName(l.Name)} {
			u, err := h.Unit(ctx, name, inv.Host.UnitDir)
			if err != nil {
				return err
			}
			l.Active = l.Active || u.Active != "inactive" && u.Active != "failed"
			o.Units[name] = u.Unit
		}
		o.Leftovers = append(o.Leftovers, *l)
	}
	slices.SortFunc(o.Leftovers, func(a, b plan.Leftover) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// staleLinks finds the links of `systemctl enable` in a directory where the units
// are no longer.
func staleLinks(inv *instance.Inventory, dir string, o *plan.Observed) {
	for _, i := range inv.Enabled() {
		if enabled(i.ServiceName(), dir) {
			o.Stale[i.Name] = append(o.Stale[i.Name], enableLink(i.ServiceName(), dir))
		}
	}
}

// unitDirs are the directories in which opencoded may have written units.
var unitDirs = []string{"/etc/systemd/system", "/run/systemd/system"}

// unitFiles lists the unit files of a directory that bear opencoded's mark.
func unitFiles(dir string) ([]string, error) {
	candidates, err := filepath.Glob(filepath.Join(dir, "opencode-*.service"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range candidates {
		if info, err := os.Lstat(p); err != nil || !info.Mode().IsRegular() {
			continue // a mask or an alias of the administrator's
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(string(text), sandbox.Marker) {
			out = append(out, p)
		}
	}
	return out, nil
}

// unitInstance is the instance to which a unit belongs.
func unitInstance(unit string) string {
	name := strings.TrimSuffix(strings.TrimPrefix(unit, "opencode-"), ".service")
	return strings.TrimSuffix(name, "-setup")
}
