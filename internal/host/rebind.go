package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/internal/sandbox"
)

// An allowed socket directory is bound into an instance when that starts. A server
// that removes its directory when it stops, as RuntimeDirectory= does, comes back
// with another, and one that starts later has none yet: the instance would never
// see it. So it is bound again, from outside, into the running instance.

// Rebound is a path that was bound into a running instance, or could not be.
type Rebound struct {
	Instance, Path string
	Err            error
}

// AllowedSockets are the allowed paths of each instance, as the last apply left
// them; none where there was none.
func AllowedSockets() (map[string][]string, error) {
	text, err := os.ReadFile(plan.SocketsFile)
	if isNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := trusted(plan.SocketsFile); err != nil {
		return nil, err
	}
	var out map[string][]string
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w (run `opencoded apply`)", plan.SocketsFile, err)
	}
	return out, nil
}

// RebindSockets brings the running instances up to date with the host, and says
// what it did.
func RebindSockets(ctx context.Context, allowed map[string][]string) ([]Rebound, error) {
	if len(allowed) == 0 {
		return nil, nil
	}
	h, err := Open(ctx)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	var out []Rebound
	for name, paths := range allowed {
		u, err := h.Unit(ctx, instance.ServiceName(name), "")
		if err != nil {
			return out, err
		}
		for _, p := range paths {
			if u.MainPID != 0 && staleSocket(u.MainPID, p) {
				out = append(out, Rebound{name, p, rebind(name, u.MainPID, p)})
			}
		}
	}
	return out, nil
}

// staleSocket reports whether the host has a path that a process does not see, or of
// which it sees an earlier one.
func staleSocket(pid uint32, path string) bool {
	var have, want unix.Stat_t
	if unix.Stat(path, &want) != nil {
		return false // nothing to see
	}
	root, err := rootOf(pid)
	if err != nil {
		return false // ended
	}
	defer unix.Close(root)
	target, err := beneath(root, path)
	if err != nil {
		return true
	}
	defer unix.Close(target)
	return unix.Fstat(target, &have) != nil || have.Dev != want.Dev || have.Ino != want.Ino
}

func rootOf(pid uint32) (int, error) {
	return unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// beneath opens a path below a root without following a link: the instance can write
// to its /run.
func beneath(root int, path string) (int, error) {
	return unix.Openat2(root, strings.TrimPrefix(path, "/"), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// rebind mounts a path of the host, read-only, at its place in the mount namespace of
// a process.
func rebind(name string, pid uint32, path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	// Its /run is a file system of its own in memory, its root a read-only view of this.
	if tree := sandbox.LayoutOf(name).Root; !strings.HasPrefix(path, "/run/") {
		if err := os.MkdirAll(filepath.Join(tree, filepath.Dir(path)), 0o755); err != nil {
			return err
		}
		if err := makeTarget(unix.AT_FDCWD, filepath.Join(tree, path), isDir); err != nil {
			return err
		}
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("cannot take a mount of %s: %w (Linux 5.12 and later can)", path, err)
	}
	defer unix.Close(tree)
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attributes); err != nil {
		return fmt.Errorf("cannot make a mount of %s read-only: %w", path, err)
	}
	return inMountsOf(pid, func(root, proc int) error { return place(root, proc, tree, path, isDir) })
}

// inMountsOf runs do in the mount namespace of a process. root is the process's, proc
// the host's /proc.
func inMountsOf(pid uint32, do func(root, proc int) error) error {
	root, err := rootOf(pid)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	namespace, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(namespace)
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(proc)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Setns(namespace, unix.CLONE_NEWNS)
		}
		if err == nil {
			err = do(root, proc)
		}
		done <- err
	}()
	return <-done
}

// place puts a mount at a path, in the place of an earlier one. Everything goes by
// descriptor, so that nothing which the instance does meanwhile leads elsewhere.
func place(root, proc, tree int, path string, isDir bool) error {
	dir := root
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for n, part := range parts {
		last := n == len(parts)-1
		if err := makeTarget(dir, part, isDir || !last); err != nil && !errors.Is(err, unix.EROFS) {
			return err
		}
		next, err := beneath(dir, part)
		if err != nil {
			return fmt.Errorf("cannot go to %s in the instance: %w", path, err)
		}
		defer unix.Close(next)
		dir = next
	}
	if mounted, err := isMountRoot(dir); err == nil && mounted {
		// umount(2) takes a path: this one leads to the very mount of the descriptor.
		if err := unix.Fchdir(proc); err != nil {
			return err
		}
		if err := unix.Unmount(fmt.Sprintf("thread-self/fd/%d", dir), unix.MNT_DETACH); err != nil {
			return fmt.Errorf("cannot take the earlier mount from %s: %w", path, err)
		}
		return place(root, proc, tree, path, isDir)
	}
	const empty = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	if err := unix.MoveMount(tree, "", dir, "", empty); err != nil {
		return fmt.Errorf("cannot mount %s in the instance: %w", path, err)
	}
	return nil
}

// makeTarget makes a directory or an empty file where there is nothing.
func makeTarget(dir int, name string, isDir bool) error {
	var err error
	if isDir {
		err = unix.Mkdirat(dir, name, 0o755)
	} else {
		err = unix.Mknodat(dir, name, unix.S_IFREG|0o444, 0)
	}
	if errors.Is(err, unix.EEXIST) {
		err = nil
	}
	if err != nil {
		return &os.PathError{Op: "make", Path: name, Err: err}
	}
	return nil
}

func isMountRoot(fd int) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, err
}
