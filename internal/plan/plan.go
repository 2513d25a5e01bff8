package plan

import (
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/netpolicy"
)

// Verb is what a step does to its object.
type Verb string

// The verbs, in the operator's words.
const (
	Create  Verb = "create"
	Change  Verb = "change"
	Remove  Verb = "remove"
	Enable  Verb = "enable"
	Disable Verb = "disable"
	Start   Verb = "start"
	Restart Verb = "restart"
	Stop    Verb = "stop"
)

// Kind is what a step acts on.
type Kind string

// The kinds, in the order in which their steps are done.
const (
	KindAccount   Kind = "account"
	KindDirectory Kind = "directory"
	KindFile      Kind = "file"
	KindLink      Kind = "link"
	KindQuota     Kind = "quota" // of a state directory
	KindRules     Kind = "rules"
	KindFirewall  Kind = "firewall" // a rule in the firewall that manages the host
	KindUnit      Kind = "unit"     // a unit file
	KindService   Kind = "service"  // the running service
)

// Step is one thing to do.
type Step struct {
	Verb Verb   `json:"verb"`
	Kind Kind   `json:"kind"`
	Name string `json:"name"`           // path, account, table or unit
	Why  string `json:"why,omitempty"`  // where the object alone does not say it
	Diff string `json:"diff,omitempty"` // unified, of text or rules; empty for secrets

	Account *Account         `json:"-"`
	Dir     *Dir             `json:"-"`
	File    *File            `json:"-"`
	Link    *Link            `json:"-"`
	Quota   *Quota           `json:"-"`
	Table   *netpolicy.Table `json:"-"`
	Opening *Opening         `json:"-"`
}

// Action sums up what happens to an instance.
type Action string

// The actions.
const (
	ActCreate  Action = "create"
	ActRestart Action = "restart"
	ActStart   Action = "start"
	ActUpdate  Action = "update" // without a restart
	ActRemove  Action = "remove"
	ActNone    Action = "unchanged"
)

// Lane is what is to be done for one instance, in order. A failed step ends its
// own lane only; but nothing starts when the host's own lane failed.
type Lane struct {
	Instance string   `json:"instance,omitempty"` // "" for what all instances share
	Action   Action   `json:"action"`
	Why      []string `json:"why,omitempty"` // why it restarts or starts
	Steps    []Step   `json:"steps,omitempty"`
	// Outdated is what a restart would bring, and nobody is in a hurry for: "opencode 1.18.34". See RestartOutdated.
	Outdated []string `json:"outdated,omitempty"`
	Rolling  bool     `json:"rolling,omitempty"` // restarted after all others, one at a time
	Held     bool     `json:"-"`                 // does not run, and is not to be started
}

// Plan is the difference between what is wanted and what is there.
type Plan struct {
	Host   Lane   `json:"host"`
	Lanes  []Lane `json:"instances"` // sorted by name; unchanged ones included
	Reload bool   `json:"reload"`    // systemd must read its unit files again
}

// Empty reports whether the host is converged.
func (p Plan) Empty() bool {
	if p.Reload || len(p.Host.Steps) > 0 {
		return false
	}
	for _, l := range p.Lanes {
		if len(l.Steps) > 0 {
			return false
		}
	}
	return true
}

// RestartOutdated is the plan that also restarts what is outdated, one instance after the other.
func (p Plan) RestartOutdated() Plan {
	p.Lanes = slices.Clone(p.Lanes)
	for n := range p.Lanes {
		l := &p.Lanes[n]
		if len(l.Outdated) == 0 {
			continue
		}
		l.Action, l.Why, l.Rolling = ActRestart, []string{"to run " + strings.Join(l.Outdated, ", ")}, true
		l.Steps = append(slices.Clip(l.Steps), Step{Verb: Restart, Kind: KindService, Name: instance.ServiceName(l.Instance), Why: l.Why[0]})
		l.Outdated = nil
	}
	return p
}

// Only is the part of the plan that concerns one instance and no other.
func (p Plan) Only(name string) Plan {
	p.Lanes = slices.DeleteFunc(slices.Clone(p.Lanes), func(l Lane) bool { return l.Instance != name })
	return p
}

// Unattended is the part of the plan that is done without asking: of an instance that runs no longer nothing is
// started that somebody has stopped, that systemd has given up, or that is on its way already. A failed one gets
// another chance when something of it changes. held names those that are left as they are.
func (p Plan) Unattended(have Observed) (todo Plan, held []string) {
	todo = Plan{Host: p.Host, Reload: p.Reload}
	for _, l := range p.Lanes {
		if l.Action == ActStart {
			u := have.Units[instance.ServiceName(l.Instance)]
			if u.Active == "failed" && len(l.Steps) == 1 || u.Active == "inactive" && u.Ran || u.Active == "activating" || u.Active == "deactivating" {
				l.Steps = slices.DeleteFunc(slices.Clone(l.Steps), func(s Step) bool { return s.Verb == Start })
				l.Action, l.Held = ActUpdate, true
				held = append(held, l.Instance)
			}
		}
		if len(l.Steps) > 0 {
			todo.Lanes = append(todo.Lanes, l)
		}
	}
	return todo, held
}

// Lane returns the lane of an instance, or nil.
func (p Plan) Lane(name string) *Lane {
	for i := range p.Lanes {
		if p.Lanes[i].Instance == name {
			return &p.Lanes[i]
		}
	}
	return nil
}
