// Package daemon keeps the host as the last apply left it: what others undo, it
// does again, and says what it found.
package daemon

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	notify "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/netpolicy"
)

// Run restores the egress rules, tells systemd that it is ready, and restores
// them again whenever a transaction of somebody else touches them or accounts
// change, until the context ends. It fails only when it cannot begin.
func Run(ctx context.Context, log *zap.Logger) error {
	rules, err := host.NewRuleKeeper(ctx)
	if err != nil {
		return err
	}
	watcher, err := rules.Watch()
	if err != nil {
		return err
	}
	defer watcher.Close()
	accounts := accountChanges(ctx, log)
	k := keeper{log: log, rules: rules, retry: time.NewTimer(0)}
	k.restore(ctx, "")
	if _, err := notify.SdNotify(false, notify.SdNotifyReady+"\nSTATUS="+k.status()); err != nil {
		log.Warn("cannot tell systemd of being ready", zap.Error(err))
	}
	go keepSockets(ctx, log)
	k.keep(ctx, events(ctx, log, watcher), accounts)
	_, _ = notify.SdNotify(false, notify.SdNotifyStopping)
	return nil
}

// events passes on what the watcher sees, until it ends.
func events(ctx context.Context, log *zap.Logger, w *netpolicy.Watcher) <-chan netpolicy.Event {
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

type keeper struct {
	log    *zap.Logger
	rules  *host.RuleKeeper
	retry  *time.Timer
	wait   time.Duration // until the next attempt, after failures
	failed error
	count  int // restorations since the start
}

// Attempts after a failure are this far apart, at first and at most.
const (
	firstWait = time.Second
	lastWait  = time.Minute
)

func (k *keeper) keep(ctx context.Context, events <-chan netpolicy.Event, accounts <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case e, open := <-events:
			if !open {
				return
			}
			by, ours := touches(e)
			for pending := true; pending; { // one restoration serves them all
				select {
				case more, open := <-events:
					if !open {
						return
					}
					also, touched := touches(more)
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
		case <-accounts:
			k.restore(ctx, "")
		case <-k.retry.C:
			if k.failed != nil {
				k.restore(ctx, "")
			}
		}
	}
}

// touches reports whether somebody else changed a table of opencoded's, and who.
func touches(e netpolicy.Event) (by string, ours bool) {
	if e.Lost {
		return "", true
	}
	if int(e.PID) == os.Getpid() {
		return "", false
	}
	ours = slices.ContainsFunc(e.Tables, func(name string) bool {
		return strings.HasPrefix(name, "opencode-") || strings.HasPrefix(name, "opencoded-")
	})
	if !ours {
		return "", false
	}
	return fmt.Sprintf("%s (pid %d)", e.Process, e.PID), true
}

func (k *keeper) restore(ctx context.Context, by string) {
	changes, err := k.rules.Restore(ctx)
	for _, c := range changes {
		k.count++
		fields := []zap.Field{zap.String("table", c.Table), zap.String("difference", c.Diff)}
		if by != "" {
			fields = append(fields, zap.String("changed_by", by))
		}
		if c.Err == nil {
			k.log.Warn("egress rules restored", fields...)
		}
	}
	if k.failed = err; err == nil {
		k.wait = firstWait
		_, _ = notify.SdNotify(false, "STATUS="+k.status())
		return
	}
	if ctx.Err() != nil {
		return
	}
	k.log.Error("cannot restore the egress rules", zap.Error(err), zap.Duration("again_in", max(k.wait, firstWait)))
	k.wait = max(k.wait, firstWait)
	k.retry.Reset(k.wait)
	k.wait = min(2*k.wait, lastWait)
	_, _ = notify.SdNotify(false, "STATUS="+k.status())
}

// status is a sentence for systemctl.
func (k *keeper) status() string {
	if k.failed != nil {
		return "Egress rules could not be restored: " + strings.ReplaceAll(k.failed.Error(), "\n", "; ")
	}
	return fmt.Sprintf("Egress rules hold; %d tables restored since the start.", k.count)
}
