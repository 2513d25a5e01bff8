package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/opencoded/opencoded/internal/control"
	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/plan"
)

// survey is an inventory held against the host.
type survey = host.Survey

// reconcile makes the host as the inventory says, and reports after how long it is to be tried again; 0: need not be.
// What makes it fail is in the journal, and in the state.
func (d *daemon) reconcile(ctx context.Context, reasons []reason) (again time.Duration) {
	began := time.Now()
	defer func() { d.metrics.reconciled(time.Since(began)) }()
	err := d.converge(ctx, reasons)
	for _, r := range reasons {
		if r.reply != nil {
			r.reply <- err
		}
	}
	var refused *control.Refusal
	problem := ""
	if ctx.Err() == nil && err != nil && !errors.As(err, &refused) { // of what is refused another attempt would find the same
		problem = err.Error()
	}
	d.state.update(func(now *control.State) { now.Problem = problem })
	if problem == "" {
		d.backoff = 0
		return 0
	}
	d.Log.Error("the host is not as the inventory says", zap.Error(err), zap.String("reason", words(reasons)))
	d.backoff = min(max(2*d.backoff, firstWait), lastWait)
	return d.backoff
}

// converge is one attempt.
func (d *daemon) converge(ctx context.Context, reasons []reason) error {
	unlock, err := host.Lock(ctx, "opencoded.service", func(holder string) {
		d.Log.Info("waiting for "+holder, zap.String("reason", words(reasons)))
	})
	if err != nil {
		return err
	}
	defer unlock()
	s, refused, err := d.look(ctx)
	if err != nil {
		return err
	}
	if s == nil { // there is nothing to go by
		return refused
	}
	wanted := s.Desired.Fingerprint()
	if err := d.follow(s); err != nil {
		d.Log.Error("some files are not watched: changes of them are seen with the next of another", zap.Error(err))
	}
	address := ""
	if l := s.Inventory.Host.MetricsListen; l.IsValid() {
		address = l.String()
	}
	d.metrics.listen(ctx, address)
	if !s.Inventory.Host.AutoApply && wanted != d.converged {
		d.leave(s, wanted)
		return refused
	}
	s.Shape(func(p plan.Plan, have plan.Observed) plan.Plan {
		todo, _ := p.Unattended(have)
		return d.untried(todo, s.Desired)
	})
	d.say(s, reasons)
	d.monitor.set(s.Inventory, s.Desired)
	if !s.Plan.Empty() {
		failed, err := d.apply(ctx, s, wanted == d.converged)
		if err != nil {
			return err
		}
		if len(failed) > 0 && refused == nil {
			refused = &control.Refusal{Message: "did not come through: " + strings.Join(failed, ", ") + " (journalctl -u opencoded)"}
		}
	}
	d.converged = wanted
	d.state.update(func(now *control.State) { now.Waiting = 0 })
	return refused
}

// look reads the inventory and surveys the host. With a broken inventory it surveys by the last good one, so that what
// others change is repaired all the same, and says what is wrong as well. No survey at all: nothing is known to go by.
func (d *daemon) look(ctx context.Context) (*survey, error, error) {
	var lines []string
	inv, problems, err := host.ReadInventory(d.Inventory)
	if err != nil {
		lines = []string{err.Error()}
	}
	var s *survey
	if inv != nil {
		var more document.Diagnostics
		if s, more, err = d.host.Survey(ctx, inv); err != nil {
			return nil, nil, err
		}
		problems = append(problems, more...)
	}
	if s != nil {
		d.accept(s, problems)
		return s, nil, nil
	}
	for _, p := range problems.Errors() {
		lines = append(lines, p.String())
	}
	refused := d.broken(lines)
	if inv != nil { // what it names may be what is mended next
		d.state.setSources(host.Sources(inv))
	}
	if d.good == nil {
		return nil, refused, d.watch(nil)
	}
	if s, _, err = d.host.Survey(ctx, d.good.Inventory); err != nil {
		return nil, nil, err
	}
	return s, refused, d.watch(s)
}

// accept notes that an inventory is in force, and says what it warns of, once.
func (d *daemon) accept(s *survey, problems document.Diagnostics) {
	d.good = s
	d.state.setSources(host.Sources(s.Inventory))
	wanted := s.Desired.Fingerprint()
	d.state.update(func(now *control.State) {
		if wanted != d.accepted {
			now.Generation++
			now.Loaded = time.Now()
		}
		now.Broken = nil
	})
	if wanted == d.accepted {
		return
	}
	d.accepted = wanted
	for _, p := range problems {
		d.Log.Warn(p.String(), action("read"))
	}
}

// broken notes what is wrong with the inventory, says it once, and makes an answer of it.
func (d *daemon) broken(lines []string) error {
	before := d.state.get().Broken
	d.state.update(func(now *control.State) { now.Broken = lines })
	if !slices.Equal(before, lines) {
		for _, l := range lines {
			d.Log.Error(l, action("read"))
		}
		kept := "running instances stay as they are"
		if d.good != nil {
			kept = "the one before is kept"
		}
		d.Log.Error("the inventory is broken: "+kept, action("read"), zap.Int("errors", len(lines)))
	}
	return &control.Refusal{Message: fmt.Sprintf("the inventory %s is broken; nothing was changed", d.Inventory), Lines: lines}
}

// follow watches what decides about the host, and what is kept on it.
func (d *daemon) follow(s *survey) error {
	d.state.update(func(now *control.State) { now.Instances = len(s.Desired.Targets) })
	d.state.setPatience(s.Desired)
	return d.watch(s)
}

func (d *daemon) watch(s *survey) error {
	paths := append(d.state.sourceList(), d.Inventory, accountFile)
	if s != nil {
		for _, f := range s.Desired.Files {
			paths = append(paths, f.Path)
		}
		for _, t := range s.Desired.Targets {
			for _, f := range slices.Concat(t.Files, t.Units) {
				paths = append(paths, f.Path)
			}
		}
	}
	more, err := d.files.set(paths)
	if more { // and has perhaps changed since it was read
		d.tell(reason{text: "more is watched"})
	}
	return err
}

// leave is what auto_apply = false does: what would change is told, and left to the operator.
func (d *daemon) leave(s *survey, wanted string) {
	waiting := 0
	for _, l := range append([]plan.Lane{s.Plan.Host}, s.Plan.Lanes...) {
		waiting += len(l.Steps)
	}
	if s.Plan.Empty() {
		d.converged = wanted
	}
	before := d.state.get().Waiting
	d.state.update(func(now *control.State) { now.Waiting = waiting })
	if waiting != before {
		d.Log.Warn("changes wait for `opencoded apply` (auto_apply = false)", action("wait"), zap.Int("steps", waiting))
	}
	if s.Plan.Empty() {
		d.monitor.set(s.Inventory, s.Desired)
	}
}

// untried leaves out the start of instances that did not come up just as they are: systemd goes on with them, or has
// given up. Whoever mends them changes something, or starts them.
func (d *daemon) untried(p plan.Plan, want plan.Desired) plan.Plan {
	for n, l := range p.Lanes {
		t := want.Target(l.Instance)
		if t == nil || d.failed[l.Instance] != t.Generation.String() || l.Action == plan.ActRemove {
			continue
		}
		p.Lanes[n].Held = true
		p.Lanes[n].Steps = slices.DeleteFunc(slices.Clone(l.Steps), func(s plan.Step) bool { return s.Kind == plan.KindService })
	}
	p.Lanes = slices.DeleteFunc(p.Lanes, func(l plan.Lane) bool { return len(l.Steps) == 0 })
	return p
}

// say writes why the host was looked at, and what comes of it.
func (d *daemon) say(s *survey, reasons []reason) {
	fields := []zap.Field{action("reconcile"), zap.String("reason", words(reasons))}
	switch {
	case !s.Plan.Empty():
		d.Log.Info("the host is made as the inventory says", fields...)
	case slices.ContainsFunc(reasons, func(r reason) bool { return r.source }):
		d.Log.Info("nothing to do: the host is as the inventory says", fields...)
	default:
		d.Log.Debug("nothing to do: the host is as the inventory says", fields...)
	}
}

// apply carries the plan out, and names the instances that did not come up. With repair nothing that was wanted has
// changed since the host was last as wanted: others have changed it.
func (d *daemon) apply(ctx context.Context, s *survey, repair bool) (failed []string, err error) {
	if repair {
		for _, l := range append([]plan.Lane{s.Plan.Host}, s.Plan.Lanes...) {
			for _, step := range l.Steps {
				if step.Kind == plan.KindService {
					continue
				}
				d.metrics.repaired(string(step.Kind))
				d.Log.Warn("drift repaired", action(string(step.Verb)), instanceField(l.Instance),
					zap.String("what", string(step.Kind)+" "+step.Name), zap.String("difference", step.Diff+step.Why))
			}
		}
	}
	outcomes := d.host.Apply(ctx, s, func(host.Event) {})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var broken []error
	for _, o := range outcomes {
		fields := []zap.Field{instanceField(o.Instance), action(string(o.Action))}
		if o.Err == nil {
			delete(d.failed, o.Instance)
			if lane := s.Plan.Lane(o.Instance); lane != nil && len(lane.Why) > 0 {
				fields = append(fields, zap.String("why", strings.Join(lane.Why, ", ")))
			}
			d.Log.Info(verbs[o.Action], fields...)
			continue
		}
		what := "instance did not come through"
		if o.Instance == "" {
			what = "what all instances share could not be set up"
		}
		d.Log.Error(what, append(fields, zap.Error(o.Err), zap.Strings("journal", o.Journal))...)
		if o.Generation == "" {
			broken = append(broken, o.Err)
			continue
		}
		d.failed[o.Instance] = o.Generation // not of the survey: passwords of new instances are made while it is carried out
		failed = append(failed, o.Instance)
	}
	d.metrics.applied(len(failed) == 0 && len(broken) == 0)
	d.state.update(func(now *control.State) { now.Failed = failed })
	return failed, errors.Join(broken...)
}

// words are the reasons in one line, each once.
func words(reasons []reason) string {
	var out []string
	for _, r := range reasons {
		if !slices.Contains(out, r.text) {
			out = append(out, r.text)
		}
	}
	const most = 5
	if more := len(out) - most; more > 0 {
		out = append(out[:most], fmt.Sprintf("%d more", more))
	}
	return strings.Join(out, ", ")
}
