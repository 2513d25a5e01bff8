package daemon

import (
	"context"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// accountFile is replaced as a whole by whatever changes accounts, so its directory is
// watched. Accounts of a directory server change without a sign on this host; they
// are looked at whenever rules are.
const accountFile = "/etc/passwd"

// accountChanges sends when local accounts have changed, until the context ends.
func accountChanges(ctx context.Context, log *zap.Logger) <-chan struct{} {
	changed := make(chan struct{}, 1)
	w, err := fsnotify.NewWatcher()
	if err == nil {
		if err = w.Add("/etc"); err != nil {
			w.Close()
		}
	}
	if err != nil {
		log.Error("cannot watch accounts: rules of a deleted one stay until the next apply", zap.Error(err))
		return changed
	}
	go func() {
		defer w.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case e, open := <-w.Events:
				if !open {
					return
				}
				if e.Name != accountFile || e.Op == fsnotify.Chmod {
					continue
				}
			case _, open := <-w.Errors: // events were lost
				if !open {
					return
				}
			}
			select {
			case changed <- struct{}{}:
			default: // one is waiting already
			}
		}
	}()
	return changed
}
