package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock takes the host's lock: one opencoded at a time changes things. While
// somebody else has it, waiting is told once who, and Lock waits until ctx ends.
// The kernel releases the lock when its holder dies.
func Lock(ctx context.Context, purpose string, waiting func(holder string)) (unlock func(), err error) {
	return lock(ctx, "lock", purpose, waiting)
}

// lockRules is a lock of its own for the packet filter, short and taken inside of
// the other, so that a starting unit does not wait for the apply that starts it.
func lockRules(ctx context.Context) (unlock func(), err error) {
	return lock(ctx, "rules.lock", "rules", func(string) {})
}

const lockPoll = 20 * time.Millisecond

func lock(ctx context.Context, name, purpose string, waiting func(string)) (func(), error) {
	if err := os.MkdirAll(RunDir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(RunDir, name), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, err
	}
	told := false
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", f.Name(), err)
		}
		if !told {
			holder, _ := io.ReadAll(io.NewSectionReader(f, 0, 200))
			waiting(strings.TrimSpace(string(holder)))
			told = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", f.Name(), context.Cause(ctx))
		case <-time.After(lockPoll):
		}
	}
	_ = f.Truncate(0) // who holds it is a courtesy, not part of the lock
	_, _ = f.WriteAt([]byte(fmt.Sprintf("%s (pid %d)\n", purpose, os.Getpid())), 0)
	return func() { f.Close() }, nil
}
