package host

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/netpolicy"
	"github.com/opencoded/opencoded/internal/plan"
)

// Event tells how an instance is coming along, for whoever watches.
type Event struct {
	Instance string
	State    string // what is being done, or the outcome
	Done     bool
	Err      error
}

// Outcome is how one lane ended.
type Outcome struct {
	Instance string        `json:"instance,omitempty"` // "" for what all instances share
	Action   plan.Action   `json:"action"`
	Took     time.Duration `json:"-"`
	Health   *Health       `json:"health,omitempty"`
	Err      error         `json:"-"`
	Journal  []string      `json:"journal,omitempty"` // last lines of a unit that did not come up

	Generation string `json:"-"` // what the instance was to run with; "" when it is not wanted
}

// Apply carries out the plan of a survey. A failed step ends its own lane; the
// others go on. All outcomes come back, in the order of the plan. The caller
// holds the lock.
func (h *Host) Apply(ctx context.Context, s *Survey, watch func(Event)) []Outcome {
	r := newRun(h, s, watch)
	if err := r.accounts(ctx); err != nil {
		r.fail("", err)
	}
	r.each(plan.KindDirectory, plan.KindFile, plan.KindLink, plan.KindQuota)
	r.stopLeftovers(ctx)
	r.rules(ctx)
	r.units(ctx)
	r.dropRules(ctx)
	r.ports(ctx)
	r.services(ctx)
	return r.outcomes()
}

// run is one apply under way.
type run struct {
	h      *Host
	s      *Survey
	watch  func(Event)
	start  time.Time
	mu     sync.Mutex
	failed map[string]error // by instance; "" for the host
	ended  map[string]Outcome
}

func newRun(h *Host, s *Survey, watch func(Event)) *run {
	return &run{h: h, s: s, watch: watch, start: time.Now(), failed: map[string]error{}, ended: map[string]Outcome{}}
}

func (r *run) fail(name string, err error) {
	r.mu.Lock()
	first := r.failed[name] == nil
	if first {
		r.failed[name] = err
	}
	r.mu.Unlock()
	if first {
		r.watch(Event{Instance: name, State: "failed", Done: true, Err: err})
	}
}

// blocked reports whether a lane is to be left alone. Nothing goes on when what
// all instances share could not be set up.
func (r *run) blocked(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed[name] != nil || r.failed[""] != nil
}

// lanes are the host's lane and then those of the instances.
func (r *run) lanes() []plan.Lane {
	return append([]plan.Lane{r.s.Plan.Host}, r.s.Plan.Lanes...)
}

// accounts creates what is missing, then surveys again: from here on the plan
// has the ids that the accounts really got.
func (r *run) accounts(ctx context.Context) error {
	var fragments []string
	for _, l := range r.s.Plan.Lanes {
		for _, step := range l.Steps {
			if step.Kind == plan.KindAccount {
				fragments = append(fragments, plan.FragmentPath(l.Instance))
			}
		}
	}
	if len(fragments) == 0 {
		return nil
	}
	wanted := map[string]bool{}
	for _, p := range fragments {
		wanted[p] = true
	}
	for _, l := range r.lanes() {
		for _, step := range l.Steps {
			if step.Kind == plan.KindDirectory && step.Name == plan.FragmentDir || step.Kind == plan.KindFile && wanted[step.Name] {
				if err := write(step); err != nil {
					return err
				}
			}
		}
	}
	if err := makeAccounts(ctx, fragments); err != nil {
		return err
	}
	again, problems, err := r.h.Survey(ctx, r.s.Inventory)
	if err == nil && len(problems.Errors()) > 0 {
		err = errors.New(problems.Errors()[0].String())
	}
	if err != nil {
		return fmt.Errorf("cannot go on after creating the accounts: %w", err)
	}
	if r.s.shape != nil {
		again.Shape(r.s.shape)
	}
	for i := range again.Plan.Lanes {
		keepAction(&again.Plan.Lanes[i], r.s.Plan)
	}
	r.s = again
	return nil
}

// keepAction keeps what the operator was told: the second survey sees some of it
// done already.
func keepAction(l *plan.Lane, shown plan.Plan) {
	if before := shown.Lane(l.Instance); before != nil {
		l.Action, l.Why = before.Action, before.Why
	}
}

// each does the steps of some kinds that only write files, lanes side by side;
// the host's own lane first, because the others build on it.
func (r *run) each(kinds ...plan.Kind) {
	r.writeLane(r.s.Plan.Host, kinds)
	slots := make(chan struct{}, 2*runtime.NumCPU())
	var wg sync.WaitGroup
	for _, l := range r.s.Plan.Lanes {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			r.writeLane(l, kinds)
		})
	}
	wg.Wait()
}

func (r *run) writeLane(l plan.Lane, kinds []plan.Kind) {
	for _, step := range l.Steps {
		if r.blocked(l.Instance) {
			return
		}
		for _, k := range kinds {
			if step.Kind == k {
				if err := write(step); err != nil {
					r.fail(l.Instance, err)
				}
			}
		}
	}
}

// write does one step that concerns files only.
func write(s plan.Step) error {
	switch {
	case s.Dir != nil:
		return makeDir(*s.Dir)
	case s.File != nil:
		return writeFile(*s.File)
	case s.Link != nil:
		return makeLink(*s.Link)
	case s.Quota != nil:
		return setQuota(s.Verb, *s.Quota)
	case s.Kind == plan.KindFile && s.Verb == plan.Remove:
		return removeFile(s.Name)
	}
	return nil
}

// stopLeftovers stops what is no longer wanted and takes its unit files away. It
// precedes the new rules, which no longer speak of it; what cannot be stopped
// therefore stops the whole apply.
func (r *run) stopLeftovers(ctx context.Context) {
	for _, l := range r.s.Plan.Lanes {
		if l.Action != plan.ActRemove || r.blocked("") {
			continue
		}
		r.watch(Event{Instance: l.Instance, State: "stopping"})
		for _, step := range l.Steps {
			if err := r.takeDown(ctx, step); err != nil {
				r.fail("", fmt.Errorf("cannot remove instance %s: %w", l.Instance, err))
				break
			}
		}
	}
}

func (r *run) takeDown(ctx context.Context, step plan.Step) error {
	switch {
	case step.Verb == plan.Stop:
		return r.h.stop(ctx, step.Name) // PartOf= takes its set-up with it
	case step.Verb == plan.Disable:
		return r.h.disable(ctx, step.Name)
	case step.Verb == plan.Remove && step.Kind == plan.KindUnit:
		return removeFile(step.Name)
	case step.Quota != nil:
		return setQuota(step.Verb, *step.Quota)
	}
	return nil
}

// rules loads the guard, then the tables that restrict egress. What they
// replace is deleted later: for a moment both layouts are in force.
func (r *run) rules(ctx context.Context) {
	unlock, err := lockRules(ctx)
	if err != nil {
		r.fail("", err)
		return
	}
	defer unlock()
	var tables []netpolicy.Table
	lane := map[string]string{} // by table
	for _, l := range r.lanes() {
		for _, step := range l.Steps {
			if step.Table != nil && !r.blocked(l.Instance) {
				tables = append(tables, *step.Table)
				lane[step.Table.Name] = l.Instance
			}
		}
	}
	changes, err := r.h.kernel.Ensure(ctx, tables...)
	for _, c := range changes {
		if c.Err != nil {
			r.fail(lane[c.Table], c.Err)
			err = nil
		}
	}
	if err != nil {
		r.fail("", err)
	}
}

// units writes unit files and has systemd read them, once for all lanes.
func (r *run) units(ctx context.Context) {
	for _, l := range r.s.Plan.Lanes {
		for _, step := range l.Steps {
			if step.Kind != plan.KindUnit || l.Action == plan.ActRemove || r.blocked(l.Instance) {
				continue
			}
			var err error
			switch step.Verb {
			case plan.Remove:
				err = removeFile(step.Name)
			case plan.Enable:
				err = r.h.enable(ctx, filepath.Join(r.s.Inventory.Host.UnitDir, step.Name))
			default:
				err = write(step)
			}
			if err != nil {
				r.fail(l.Instance, err)
			}
		}
	}
	if !r.s.Plan.Reload {
		return
	}
	if err := r.h.reload(ctx); err != nil {
		r.fail("", err)
	}
}

// dropRules deletes tables that nothing needs any more: those of stopped
// instances, and of instances whose egress is no longer restricted.
func (r *run) dropRules(ctx context.Context) {
	for _, l := range r.lanes() {
		for _, step := range l.Steps {
			if step.Kind != plan.KindRules || step.Verb != plan.Remove || r.blocked(l.Instance) {
				continue
			}
			if err := r.h.kernel.Delete(ctx, step.Name); err != nil {
				r.fail(l.Instance, err)
			}
		}
	}
}

// services starts and restarts, all at once, and waits for health.
func (r *run) services(ctx context.Context) {
	var wg sync.WaitGroup
	var rolling []plan.Lane
	for _, l := range r.s.Plan.Lanes {
		switch {
		case l.Action == plan.ActRemove:
			r.done(Outcome{Instance: l.Instance, Action: l.Action}, "removed")
		case r.blocked(l.Instance):
		case l.Held:
			r.done(Outcome{Instance: l.Instance, Action: l.Action}, "not running")
		case l.Rolling:
			rolling = append(rolling, l)
		default:
			wg.Go(func() { r.service(ctx, l) })
		}
	}
	wg.Wait()
	r.roll(ctx, rolling)
}

// roll restarts one after the other, each healthy before the next: what does not come up with another opencode ends it.
func (r *run) roll(ctx context.Context, lanes []plan.Lane) {
	stopped := ""
	for _, l := range lanes {
		if stopped != "" {
			r.fail(l.Instance, fmt.Errorf("not restarted: %s did not come up", stopped))
			continue
		}
		if r.service(ctx, l); r.blocked(l.Instance) {
			stopped = l.Instance
		}
	}
}

// runningTimeout is how long a server that was running before may take to answer.
const runningTimeout = 10 * time.Second

func (r *run) service(ctx context.Context, l plan.Lane) {
	i := r.s.Inventory.Get(l.Instance)
	began := time.Now()
	var err error
	for _, step := range l.Steps {
		switch step.Verb {
		case plan.Start:
			r.watch(Event{Instance: l.Instance, State: "starting"})
			err = r.h.start(ctx, step.Name)
		case plan.Restart:
			r.watch(Event{Instance: l.Instance, State: "restarting"})
			err = r.h.restart(ctx, step.Name)
		}
	}
	out := Outcome{Instance: l.Instance, Action: l.Action}
	if err == nil {
		patience := i.StartTimeout
		if l.Action == plan.ActNone || l.Action == plan.ActUpdate {
			patience = r.h.patience(ctx, i, r.s.Inventory.Host.UnitDir)
		}
		r.watch(Event{Instance: l.Instance, State: "waiting for health"})
		var health Health
		health, err = r.h.awaitHealth(ctx, r.s.Desired.Target(l.Instance), r.s.Inventory.Host.UnitDir, patience)
		out.Health = &health
	}
	if err != nil {
		r.fail(l.Instance, err)
		r.record(Outcome{Instance: l.Instance, Action: l.Action, Err: err, Journal: journal(ctx, began, 15, i.ServiceName(), i.SetupName())})
		return
	}
	out.Took = time.Since(began)
	r.done(out, "healthy")
}

// patience is how long a server that runs already may take to answer: what is left of
// its start, for another apply may have started it just now.
func (h *Host) patience(ctx context.Context, i *instance.Instance, unitDir string) time.Duration {
	u, err := h.Unit(ctx, i.ServiceName(), unitDir)
	if err != nil {
		return runningTimeout
	}
	return min(i.StartTimeout, max(runningTimeout, i.StartTimeout-time.Since(u.Since)))
}

func (r *run) record(o Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended[o.Instance] = o
}

func (r *run) done(o Outcome, state string) {
	r.mu.Lock()
	failed := r.failed[o.Instance] != nil
	r.mu.Unlock()
	if failed {
		return
	}
	r.record(o)
	r.watch(Event{Instance: o.Instance, State: state, Done: true})
}

// outcomes lists how every lane ended; a lane that was never reached failed with
// what kept it from going on.
func (r *run) outcomes() []Outcome {
	var out []Outcome
	if err := r.failed[""]; err != nil {
		out = append(out, Outcome{Action: r.s.Plan.Host.Action, Err: err})
	}
	for _, l := range r.s.Plan.Lanes {
		o, ok := r.ended[l.Instance]
		if !ok {
			o = Outcome{Instance: l.Instance, Action: l.Action, Err: r.failed[l.Instance]}
			if o.Err == nil {
				o.Err = errors.New("not attempted: what all instances share could not be set up")
			}
		}
		if t := r.s.Desired.Target(l.Instance); t != nil {
			o.Generation = t.Generation.String()
		}
		out = append(out, o)
	}
	return out
}
