package plan

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/netpolicy"
	"github.com/opencoded/opencoded/internal/sandbox"
)

// Diff returns what has to be done so that the host is as desired.
func Diff(want Desired, have Observed) Plan {
	p := Plan{Host: Lane{Action: ActNone}}
	d := differ{have: have, lane: &p.Host, plan: &p}
	for _, dir := range want.Dirs {
		d.dir(dir)
	}
	for _, f := range want.Files {
		d.file(KindFile, f)
	}
	d.table(netpolicy.GuardTable, want.Guard)
	d.table(netpolicy.SharedTable, want.Shared)
	d.table(netpolicy.LockdownTable, nil) // left by a restoration that failed
	if len(p.Host.Steps) > 0 {
		p.Host.Action = ActUpdate
	}
	for i := range want.Targets {
		p.Lanes = append(p.Lanes, d.target(&want.Targets[i]))
	}
	for _, l := range have.Leftovers {
		p.Lanes = append(p.Lanes, d.leftover(l))
	}
	slices.SortStableFunc(p.Lanes, func(a, b Lane) int { return strings.Compare(a.Instance, b.Instance) })
	return p
}

type differ struct {
	have Observed
	plan *Plan
	lane *Lane
}

func (d *differ) add(s Step) { d.lane.Steps = append(d.lane.Steps, s) }

func (d *differ) target(t *Target) Lane {
	i := t.Instance
	l := Lane{Instance: i.Name, Action: ActNone}
	d.lane = &l
	if t.NewAccount {
		d.add(Step{Verb: Create, Kind: KindAccount, Name: t.Account.User, Account: &t.Account,
			Why: fmt.Sprintf("uid %d, group %s (%d)", t.Account.UID, t.Account.Group, t.Account.GID)})
	}
	for _, dir := range t.Dirs {
		d.dir(dir)
	}
	for _, f := range t.Files {
		d.file(KindFile, f)
	}
	for _, path := range d.have.Strays[i.Name] {
		d.add(Step{Verb: Remove, Kind: KindFile, Name: path, Why: "no longer part of the configuration"})
	}
	d.link(t.Link)
	d.quota(i.Name, t.Quota)
	d.table(netpolicy.EgressTable(i.Name), t.Egress)
	d.openings(i.Name, t.Openings)
	before := len(l.Steps)
	for _, f := range t.Units {
		d.file(KindUnit, f)
		d.plan.Reload = d.plan.Reload || d.have.Units[filepath.Base(f.Path)].NeedReload
	}
	for _, path := range d.have.Stale[i.Name] {
		d.add(Step{Verb: Remove, Kind: KindUnit, Name: path, Why: "unit_dir changed"})
	}
	service := d.have.Units[i.ServiceName()]
	if !service.Enabled {
		d.add(Step{Verb: Enable, Kind: KindUnit, Name: i.ServiceName()})
	}
	d.plan.Reload = d.plan.Reload || len(l.Steps) > before
	isNew := !d.have.Paths[t.Units[1].Path].Exists
	d.service(t, service, isNew)
	return l
}

// service decides whether the server is to be started or restarted, and says why.
func (d *differ) service(t *Target, have Unit, isNew bool) {
	l := d.lane
	name := t.Instance.ServiceName()
	switch {
	case have.Active != "active":
		l.Action, l.Why = ActStart, []string{"not running"}
		if have.Active == "failed" || have.Sub == "auto-restart" {
			l.Why = []string{"failed"}
		}
		if isNew {
			l.Action, l.Why = ActCreate, []string{"new"}
		}
		d.add(Step{Verb: Start, Kind: KindService, Name: name, Why: strings.Join(l.Why, ", ")})
	default:
		restart, waiting := t.Generation.Changed(sandbox.GenerationOf(d.have.Paths[t.Units[1].Path].Content), have.Generation)
		switch {
		case len(restart) > 0:
			l.Action, l.Why = ActRestart, restart
			d.add(Step{Verb: Restart, Kind: KindService, Name: name, Why: strings.Join(l.Why, ", ")})
			return
		case len(l.Steps) > 0:
			l.Action = ActUpdate
		}
		l.Outdated = t.outdated(waiting)
	}
}

// leftover removes what an instance that is no longer wanted left on the host.
// Its account, state and configuration stay until a purge.
func (d *differ) leftover(o Leftover) Lane {
	l := Lane{Instance: o.Name, Action: ActRemove, Why: []string{"not in the inventory"}}
	d.lane = &l
	if o.Active {
		d.add(Step{Verb: Stop, Kind: KindService, Name: instance.ServiceName(o.Name)})
	}
	if d.have.Units[instance.ServiceName(o.Name)].Enabled {
		d.add(Step{Verb: Disable, Kind: KindUnit, Name: instance.ServiceName(o.Name)})
	}
	for _, path := range o.Files {
		d.add(Step{Verb: Remove, Kind: KindUnit, Name: path})
		d.plan.Reload = true
	}
	if o.Table {
		d.add(Step{Verb: Remove, Kind: KindRules, Name: netpolicy.EgressTable(o.Name)})
	}
	d.openings(o.Name, nil)
	if o.Quota != nil {
		d.add(Step{Verb: Remove, Kind: KindQuota, Name: o.Quota.Dir, Quota: o.Quota})
	}
	return l
}

func (d *differ) dir(want Dir) {
	have := d.have.Paths[want.Path]
	s := Step{Verb: Create, Kind: KindDirectory, Name: want.Path, Dir: &want}
	switch {
	case have.Exists && have.Type != fs.ModeDir && !(want.Adopt && have.Type == fs.ModeSymlink):
		s.Why = "something else is in its place"
	case !have.Exists:
		s.Why = fmt.Sprintf("%s %d:%d", modeText(want.Mode), want.UID, want.GID)
	case want.Adopt:
		return
	case have.Mode != want.Mode || have.UID != want.UID || have.GID != want.GID:
		s.Verb = Change
		s.Why = fmt.Sprintf("%s %d:%d, was %s %d:%d", modeText(want.Mode), want.UID, want.GID, modeText(have.Mode), have.UID, have.GID)
	default:
		return
	}
	d.add(s)
}

func (d *differ) file(kind Kind, want File) {
	have := d.have.Paths[want.Path]
	s := Step{Verb: Create, Kind: kind, Name: want.Path, File: &want}
	if have.Exists {
		s.Verb = Change
	}
	attributes := have.Mode != want.Mode || have.UID != want.UID || have.GID != want.GID
	switch {
	case have.Exists && have.Type == 0 && have.Content == want.Content && !attributes:
		return
	case want.Quiet != "" && (!have.Exists || have.Content != want.Content):
		s.Why = want.Quiet
	case have.Exists && have.Content == want.Content:
		s.Why = fmt.Sprintf("%s %d:%d, was %s %d:%d", modeText(want.Mode), want.UID, want.GID, modeText(have.Mode), have.UID, have.GID)
	default:
		s.Diff = unified(have.Content, want.Content)
	}
	d.add(s)
}

func (d *differ) link(want Link) {
	path := filepath.Join(want.Below, want.Name)
	have := d.have.Paths[path]
	// Something else of the instance's own stays; the mounts cover it anyway.
	if have.Exists && (have.Type != fs.ModeSymlink || have.Content == want.Target) {
		return
	}
	s := Step{Verb: Create, Kind: KindLink, Name: path, Why: "to " + want.Target, Link: &want}
	if have.Exists {
		s.Verb = Change
	}
	d.add(s)
}

// table compares a wanted table with the loaded one; nil wants none.
func (d *differ) table(name string, want *netpolicy.Table) {
	have, loaded := d.have.Tables[name]
	switch {
	case want == nil && !loaded:
	case want == nil:
		d.add(Step{Verb: Remove, Kind: KindRules, Name: name})
	case !loaded:
		d.add(Step{Verb: Create, Kind: KindRules, Name: name, Table: want, Diff: unified("", want.String())})
	default:
		if why := netpolicy.Diff(*want, have); why != "" {
			d.add(Step{Verb: Change, Kind: KindRules, Name: name, Table: want, Diff: why})
		}
	}
}

func modeText(m fs.FileMode) string { return fmt.Sprintf("%04o", m.Perm()) }

// unified is the difference of two texts without the file headers: the step
// names the object already.
func unified(old, new string) string {
	text := udiff.Unified("", "", old, new)
	for range 2 {
		_, text, _ = strings.Cut(text, "\n")
	}
	return text
}
