package daemon

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/plan"
)

// Restarts of one server are this far apart, at first and at most, doubling until it is healthy again.
const (
	firstRestart = 500 * time.Millisecond
	lastRestart  = 30 * time.Second
)

// busyPatience is by how much longer a server may not answer that was at work when it last did: its event loop may be
// busy with what the agent has it do.
const busyPatience = 3

// monitor feels the pulse of every running instance, and restarts those that have none.
type monitor struct {
	d   *daemon
	ctx context.Context
	mu  sync.Mutex
	inv *instance.Inventory
	all map[string]*patient
}

// patient is one instance. What the loop alone uses is not locked.
type patient struct {
	stop context.CancelFunc
	wake chan struct{} // its unit has changed

	mu       sync.Mutex
	config   *instance.Instance
	unit     host.Unit
	pulse    host.Pulse
	healthy  bool
	err      error // of the last probe
	restarts int   // by the monitor

	failures int           // in a row
	backoff  time.Duration // until the next restart
}

func newMonitor(ctx context.Context, d *daemon) *monitor {
	return &monitor{d: d, ctx: ctx, all: map[string]*patient{}}
}

// set makes the monitor look after the instances of an inventory that is in force.
func (m *monitor) set(inv *instance.Inventory, want plan.Desired) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inv = inv
	for name, p := range m.all {
		if want.Target(name) == nil {
			p.stop()
			delete(m.all, name)
		}
	}
	for n := range want.Targets {
		i := want.Targets[n].Instance
		if p, known := m.all[i.Name]; known {
			p.mu.Lock()
			p.config = i
			p.mu.Unlock()
			p.hint()
			continue
		}
		ctx, stop := context.WithCancel(m.ctx)
		p := &patient{stop: stop, wake: make(chan struct{}, 1), config: i, backoff: firstRestart}
		m.all[i.Name] = p
		go m.look(ctx, p)
	}
}

func (m *monitor) inventory() *instance.Inventory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inv
}

// patients are all, by name.
func (m *monitor) patients() map[string]*patient {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]*patient, len(m.all))
	for name, p := range m.all {
		out[name] = p
	}
	return out
}

// changed says that the unit of an instance has changed its state; "" of any.
func (m *monitor) changed(name string) {
	for n, p := range m.patients() {
		if name == "" || n == name {
			p.hint()
		}
	}
}

func (p *patient) hint() {
	select {
	case p.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// look is the life of a patient. Its unit is asked for when something has changed, its pulse at intervals.
func (m *monitor) look(ctx context.Context, p *patient) {
	// Not all at the same moment.
	next := time.NewTimer(rand.N(max(p.settings().Health.Interval/10, 1)))
	defer next.Stop()
	m.refresh(ctx, p)
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
			m.refresh(ctx, p)
			continue
		case <-next.C:
			next.Reset(m.probe(ctx, p))
		}
	}
}

func (p *patient) settings() *instance.Instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.config
}

// refresh asks systemd about the unit, and forgets what was known of another process.
func (m *monitor) refresh(ctx context.Context, p *patient) {
	i := p.settings()
	u, err := m.d.host.Unit(ctx, i.ServiceName(), m.inventoryDir())
	if err != nil {
		return // the next probe asks again
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if u.MainPID != p.unit.MainPID {
		p.healthy, p.failures, p.pulse, p.err = false, 0, host.Pulse{}, nil
	}
	if u.Active != p.unit.Active && u.Active == "failed" {
		m.d.Log.Error("systemd has given the server up", instanceField(i.Name), action("watch"),
			zap.String("result", u.Result), zap.Uint32("restarts", u.Restarts))
	}
	p.unit = u
}

func (m *monitor) inventoryDir() string {
	if inv := m.inventory(); inv != nil {
		return inv.Host.UnitDir
	}
	return instance.UnitDir
}

// probe feels the pulse once and says when to do it again.
func (m *monitor) probe(ctx context.Context, p *patient) time.Duration {
	i := p.settings()
	p.mu.Lock()
	u := p.unit
	p.mu.Unlock()
	if u.Active != "active" || u.MainPID == 0 {
		m.refresh(ctx, p)
		return i.Health.Interval
	}
	pulse, err := host.FeelPulse(ctx, u, i.Listen, i.Health.Timeout)
	if ctx.Err() != nil {
		return i.Health.Interval
	}
	if err == nil {
		p.well(pulse)
		return i.Health.Interval
	}
	if m.refresh(ctx, p); p.unit.MainPID != u.MainPID {
		return min(time.Second, i.Health.Interval) // it is another one by now
	}
	if !p.ill(err, u) {
		return i.Health.Interval
	}
	return m.restart(ctx, p, err)
}

func (p *patient) well(pulse host.Pulse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.healthy, p.err, p.pulse, p.failures, p.backoff = true, nil, pulse, 0, firstRestart
}

// ill counts a failure, and reports whether it was the last that is borne.
func (p *patient) ill(err error, u host.Unit) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	young := !p.healthy && time.Since(u.Since) < p.config.StartTimeout // it is still on its way
	p.err = err
	if young {
		return false
	}
	p.failures++
	borne := p.config.Health.Failures
	if p.pulse.Busy > 0 {
		borne *= busyPatience
	}
	return borne > 0 && p.failures >= borne
}

// restart restarts a server that does not answer, unless somebody else is at work on the host.
func (m *monitor) restart(ctx context.Context, p *patient, why error) time.Duration {
	i := p.settings()
	p.mu.Lock()
	wait, failures, busy := p.backoff, p.failures, p.pulse.Busy
	p.backoff = min(2*p.backoff, lastRestart)
	p.mu.Unlock()
	m.d.Log.Error("the server does not answer: restarting it", instanceField(i.Name), action("restart"),
		zap.Error(why), zap.Int("failures", failures), zap.Int("busy_sessions", busy), zap.Duration("in", wait))
	select {
	case <-ctx.Done():
		return 0
	case <-time.After(wait):
	}
	if err := m.d.host.Operate(ctx, host.Restart, i.Name); err != nil && ctx.Err() == nil {
		m.d.Log.Error("the server could not be restarted", instanceField(i.Name), action("restart"), zap.Error(err))
	}
	p.mu.Lock()
	p.restarts++
	p.failures = 0
	p.mu.Unlock()
	m.refresh(ctx, p)
	return i.Health.Interval
}

// healthy are those that answered the last probe.
func (m *monitor) healthy() map[string]bool {
	out := map[string]bool{}
	for name, p := range m.patients() {
		p.mu.Lock()
		if p.healthy {
			out[name] = true
		}
		p.mu.Unlock()
	}
	return out
}
