package daemon

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"

	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/plan"
)

// looks are how long after a change the instances are looked at: one that was just
// starting is not there yet at first.
var looks = []time.Duration{0, time.Second, 5 * time.Second}

// keepSockets binds allowed socket directories anew into running instances when they
// are replaced or appear, until the context ends.
func keepSockets(ctx context.Context, log *zap.Logger) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		log.Error("cannot watch allowed sockets: a server that comes back with another directory stays out of reach", zap.Error(err))
		return
	}
	defer w.Close()
	k := socketKeeper{log: log, watcher: w}
	k.read()
	next, due := 0, time.NewTimer(0)
	for {
		select {
		case <-ctx.Done():
			return
		case e, open := <-w.Events:
			switch {
			case !open:
				return
			case e.Name == plan.SocketsFile:
				k.read()
			case !k.concerns(e.Name):
				continue
			}
			k.watch()
			next = 0
			due.Reset(looks[0])
		case _, open := <-w.Errors: // events were lost
			if !open {
				return
			}
			next = 0
			due.Reset(looks[0])
		case <-due.C:
			k.rebind(ctx)
			if next++; next < len(looks) {
				due.Reset(looks[next] - looks[next-1])
			}
		}
	}
}

type socketKeeper struct {
	log     *zap.Logger
	watcher *fsnotify.Watcher
	allowed map[string][]string
}

func (k *socketKeeper) read() {
	allowed, err := host.AllowedSockets()
	if err != nil {
		k.log.Error("cannot read which sockets are allowed", zap.Error(err))
		return
	}
	k.allowed = allowed
	k.watch()
}

// watch watches the nearest directory that is there above every allowed path, which
// grows nearer as directories appear.
func (k *socketKeeper) watch() {
	dirs := []string{filepath.Dir(plan.SocketsFile)}
	for _, paths := range k.allowed {
		for _, p := range paths {
			dirs = append(dirs, nearest(filepath.Dir(p)))
		}
	}
	for _, dir := range dirs {
		if err := k.watcher.Add(dir); err != nil && exists(dir) {
			k.log.Error("cannot watch a directory of allowed sockets", zap.String("directory", dir), zap.Error(err))
		}
	}
}

// concerns reports whether a path is an allowed one, or lies on the way to one.
func (k *socketKeeper) concerns(path string) bool {
	for _, paths := range k.allowed {
		for _, p := range paths {
			if p == path || strings.HasPrefix(p, path+"/") {
				return true
			}
		}
	}
	return false
}

func (k *socketKeeper) rebind(ctx context.Context) {
	done, err := host.RebindSockets(ctx, k.allowed)
	if err != nil && ctx.Err() == nil {
		k.log.Error("cannot look after allowed sockets", zap.Error(err))
	}
	for _, r := range done {
		fields := []zap.Field{instanceField(r.Instance), action("bind"), zap.String("path", r.Path)}
		if r.Err != nil {
			k.log.Error("cannot bind a socket directory that came", append(fields, zap.Error(r.Err))...)
		} else {
			k.log.Info("socket directory bound that came", fields...)
		}
	}
}
