// Package daemon keeps the host as the inventory says. It watches, and has internal/host do what `opencoded apply`
// does; it repairs rules at once, restarts servers that hang, and tells how things are: systemd, the journal, metrics,
// and whoever asks on its socket.
//
// Three things go on side by side: egress rules (rules.go), which do not wait for anything; the health of each server
// (health.go); and the one loop (this file) that reconciles the host with the inventory (reconcile.go).
package daemon

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	notify "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/plan"
)

// Options are what the command line decides.
type Options struct {
	Inventory string // absolute path
	Version   string // of opencoded
	Log       *zap.Logger
}

// Times of the loop.
const (
	// quiet is how long changes have to have stopped before they are looked at: editors and configuration management
	// write several files.
	quiet = 200 * time.Millisecond
	// impatient is how long they may go on.
	impatient = 2 * time.Second
	// overdue is after how long a reconciliation counts as stuck, beyond the longest time that an instance may start.
	overdue = 5 * time.Minute
)

// Run keeps the host until the context ends. It fails only when it cannot begin: a broken inventory is a state, and no
// reason to end.
func Run(ctx context.Context, o Options) error {
	h, err := host.Open(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	d := &daemon{Options: o, host: h, state: &state{}, wake: make(chan reason, 64), failed: map[string]string{}}
	d.metrics = newMetrics(d)
	d.monitor = newMonitor(ctx, d)
	if d.files, err = newFileWatch(ctx, d.fileChanged); err != nil {
		return fmt.Errorf("cannot watch files: %w", err)
	}
	if err := d.keepRules(ctx); err != nil {
		return err
	}
	go keepSockets(ctx, o.Log)
	d.watchUnits(ctx)
	if err := d.serve(ctx); err != nil {
		return err
	}
	d.loop(ctx)
	_, _ = notify.SdNotify(false, notify.SdNotifyStopping)
	return nil
}

type daemon struct {
	Options
	host    *host.Host
	state   *state
	metrics *metrics
	monitor *monitor
	files   *fileWatch
	rules   *ruleKeeper
	wake    chan reason

	// Of the reconciliation that is under way, and the next.
	good      *survey           // the last that could be planned
	converged string            // fingerprint of what was wanted when the host last was so
	accepted  string            // fingerprint of what the last good inventory wants
	backoff   time.Duration     // after the last failure
	failed    map[string]string // generation with which an instance did not come up: not tried again by itself
}

// reason is why the host is to be looked at.
type reason struct {
	text   string
	source bool         // the inventory, or what it names, may have changed
	reply  chan<- error // of who waits for the outcome; nil: nobody does
}

// tell wakes the loop. It never blocks for long: the loop does nothing but wait.
func (d *daemon) tell(r reason) { d.wake <- r }

func (d *daemon) fileChanged(path string) {
	switch {
	case path == accountFile:
		select {
		case d.rules.accounts <- struct{}{}:
		default: // one is waiting already
		}
		d.tell(reason{text: "accounts changed"})
	case path == "":
		d.tell(reason{text: "changes of files were missed", source: true})
	case d.state.isSource(path):
		d.tell(reason{text: path + " changed", source: true})
	default:
		d.tell(reason{text: path + " changed"})
	}
}

// keepRules begins to keep the rules, and returns when they have been restored once.
func (d *daemon) keepRules(ctx context.Context) error {
	rules, err := host.NewRuleKeeper(ctx)
	if err != nil {
		return err
	}
	watcher, err := rules.Watch()
	if err != nil {
		return err
	}
	d.rules = &ruleKeeper{log: d.Log, rules: rules, accounts: make(chan struct{}, 1), state: d.state, metrics: d.metrics}
	restored := make(chan struct{})
	go func() {
		defer watcher.Close()
		d.rules.keep(ctx, watcher, restored)
	}()
	select {
	case <-restored:
	case <-ctx.Done():
	}
	return nil
}

// watchUnits tells the monitor when the state of a service changes.
func (d *daemon) watchUnits(ctx context.Context) {
	changed, err := host.WatchUnits(ctx)
	if err != nil {
		d.Log.Warn("states of units are asked for at each probe only", zap.Error(err))
		return
	}
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case name := <-changed:
				d.monitor.changed(name)
			}
		}
	}()
}

// loop waits for reasons and has one reconciliation done at a time. It never waits for anything else, so that its
// watchdog pings prove something.
func (d *daemon) loop(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	ping, stopPing := watchdog()
	defer stopPing()

	pending := []reason{{text: "start", source: true}}
	due, since := time.NewTimer(0), time.Now()
	done := make(chan time.Duration) // until the next attempt; 0: none is needed
	var busy time.Time               // since when a reconciliation is under way
	add := func(r reason) {
		if len(pending) == 0 {
			since = time.Now()
		}
		pending = append(pending, r)
		due.Reset(min(quiet, max(0, impatient-time.Since(since))))
	}
	for {
		select {
		case <-ctx.Done():
			for !busy.IsZero() {
				select {
				case <-d.wake: // whoever tells must not wait
				case <-done:
					return
				}
			}
			return
		case r := <-d.wake:
			add(r)
		case <-hangup:
			_, _ = notify.SdNotify(false, notify.SdNotifyReloading+"\n"+notify.SdNotifyMonotonicUsec())
			add(reason{text: "reload", source: true})
		case <-due.C:
			if !busy.IsZero() || len(pending) == 0 {
				continue
			}
			now := pending
			busy, pending = time.Now(), nil
			go func() { done <- d.reconcile(ctx, now) }()
		case again := <-done:
			busy = time.Time{}
			_, _ = notify.SdNotify(false, notify.SdNotifyReady+"\nSTATUS="+d.sentence())
			switch {
			case len(pending) > 0:
				due.Reset(quiet)
			case again > 0:
				pending, since = []reason{{text: "another attempt"}}, time.Now()
				due.Reset(again)
			}
		case <-ping:
			if busy.IsZero() || time.Since(busy) < overdue+d.state.patience() {
				_, _ = notify.SdNotify(false, notify.SdNotifyWatchdog+"\nSTATUS="+d.sentence())
			}
		}
	}
}

// watchdog ticks twice in the time after which systemd takes the daemon for dead; never where it does not care.
func watchdog() (<-chan time.Time, func()) {
	every, err := notify.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return nil, func() {}
	}
	t := time.NewTicker(every / 2)
	return t.C, t.Stop
}

// Fields by which `journalctl INSTANCE=web` and the like find a line.
func instanceField(name string) zap.Field { return zap.String("instance", name) }
func action(what string) zap.Field        { return zap.String("action", what) }

// verbs are what the journal calls the actions of a plan that are done.
var verbs = map[plan.Action]string{
	plan.ActCreate: "instance created", plan.ActStart: "instance started", plan.ActRestart: "instance restarted",
	plan.ActUpdate: "instance updated", plan.ActRemove: "instance removed",
}
