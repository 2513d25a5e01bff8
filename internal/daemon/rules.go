package daemon

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/netpolicy"
)

// accountFile is replaced as a whole by whatever changes accounts. Accounts of a directory server change without a
// sign on this host; they are looked at whenever rules are.
const accountFile = "/etc/passwd"

// ruleKeeper puts egress rules back as soon as somebody else has touched them, or accounts change. It asks neither
// for the inventory nor for the rest of the host: seconds count.
type ruleKeeper struct {
	log      *zap.Logger
	rules    *host.RuleKeeper
	accounts chan struct{}
	state    *state
	metrics  *metrics
	cutOff   bool // isolated instances wait for a restoration
	retry    *time.Timer
	wait     time.Duration // until the next attempt, after failures
	failed   error
}

// Attempts after a failure are this far apart, at first and at most.
const (
	firstWait = time.Second
	lastWait  = time.Minute
)

// keep restores the rules, closes restored, and goes on until the context ends.
func (k *ruleKeeper) keep(ctx context.Context, watcher *netpolicy.Watcher, restored chan<- struct{}) {
	events := ruleEvents(ctx, k.log, watcher)
	k.retry = time.NewTimer(lastWait)
	k.restore(ctx, "")
	close(restored)
	for {
		select {
		case <-ctx.Done():
			return
		case e, open := <-events:
			if !open {
				return
			}
			by, ours := k.touches(ctx, e)
			for pending := true; pending; { // one restoration serves them all
				select {
				case more, open := <-events:
					if !open {
						return
					}
					also, touched := k.touches(ctx, more)
					ours = ours || touched
					if by == "" {
						by = also
					}
				default:
					pending = false
				}
			}
			if ours {
				k.restore(ctx, by)
			}
		case <-k.accounts:
			k.restore(ctx, "")
		case <-k.retry.C:
			if k.failed != nil {
				k.restore(ctx, "")
			}
		}
	}
}

// ruleEvents passes on what the watcher sees, until it ends.
func ruleEvents(ctx context.Context, log *zap.Logger, w *netpolicy.Watcher) <-chan netpolicy.Event {
	out := make(chan netpolicy.Event, 64)
	go func() {
		defer close(out)
		for {
			e, err := w.Next(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil { // as good as a lost event: everything is looked at again
				log.Error("cannot watch nftables", zap.Error(err))
				e = netpolicy.Event{Lost: true}
				time.Sleep(time.Second)
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// touches reports whether somebody else changed a table of opencoded's, and who. At the first sign of it isolated
// instances are cut off; the whole event, which follows, asks for their policies.
func (k *ruleKeeper) touches(ctx context.Context, e netpolicy.Event) (by string, ours bool) {
	if e.Begun {
		cut, err := k.rules.CutOff(ctx)
		if err != nil && ctx.Err() == nil {
			k.log.Error("cannot cut off isolated instances", zap.Error(err))
		}
		k.cutOff = k.cutOff || cut
		return "", false
	}
	if e.Lost {
		return "", true
	}
	if int(e.PID) == os.Getpid() {
		return "", k.cutOff
	}
	by = fmt.Sprintf("%s (pid %d)", e.Process, e.PID)
	if slices.ContainsFunc(e.Tables, func(name string) bool {
		return strings.HasPrefix(name, "opencode-") || strings.HasPrefix(name, "opencoded-")
	}) {
		return by, true
	}
	return "", k.cutOff
}

func (k *ruleKeeper) restore(ctx context.Context, by string) {
	k.cutOff = false
	changes, err := k.rules.Restore(ctx)
	for _, c := range changes {
		if c.Err != nil {
			continue
		}
		fields := []zap.Field{action("restore"), zap.String("table", c.Table), zap.String("difference", c.Diff)}
		if by != "" {
			fields = append(fields, zap.String("changed_by", by))
		}
		if name, own := strings.CutPrefix(c.Table, netpolicy.EgressTable("")); own {
			fields = append(fields, instanceField(name))
		}
		k.log.Warn("egress rules restored", fields...)
		k.metrics.repaired("rules")
	}
	if ctx.Err() != nil {
		return
	}
	k.failed = err
	k.state.setRules(len(changes), err)
	if err == nil {
		k.wait = firstWait
		return
	}
	k.wait = max(k.wait, firstWait)
	k.log.Error("cannot restore the egress rules", zap.Error(err), zap.Duration("again_in", k.wait))
	k.retry.Reset(k.wait)
	k.wait = min(2*k.wait, lastWait)
}
