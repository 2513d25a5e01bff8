package machine

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// heldBind is a bind mount between its two ends: cloned from the host's tree, not yet placed in the machine's.
type heldBind struct {
	Bind
	tree  int // descriptor of open_tree(2)
	isDir bool
}

func holdBinds(binds []Bind) ([]heldBind, error) {
	var held []heldBind
	for _, b := range binds {
		var st unix.Stat_t
		if err := unix.Stat(b.Source, &st); err != nil {
			return nil, &os.PathError{Op: "stat", Path: b.Source, Err: err}
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
		if isDir {
			flags |= unix.AT_RECURSIVE
		}
		tree, err := unix.OpenTree(unix.AT_FDCWD, b.Source, flags)
		if err != nil {
			return nil, &os.PathError{Op: "open_tree", Path: b.Source, Err: err}
		}
		readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &readOnly); err != nil {
			return nil, &os.PathError{Op: "make read-only", Path: b.Source, Err: err}
		}
		held = append(held, heldBind{b, tree, isDir})
	}
	return held, nil
}

func placeBinds(binds []heldBind) error {
	for _, b := range binds {
		if err := os.MkdirAll(filepath.Dir(b.Target), 0o755); err != nil {
			return err
		}
		if b.isDir {
			if err := os.MkdirAll(b.Target, 0o755); err != nil {
				return err
			}
		} else {
			f, err := os.OpenFile(b.Target, os.O_CREATE|os.O_RDONLY, 0o644)
			if err != nil {
				return err
			}
			f.Close()
		}
		if err := unix.MoveMount(b.tree, "", unix.AT_FDCWD, b.Target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return &os.PathError{Op: "move_mount", Path: b.Target, Err: err}
		}
	}
	return nil
}
