package machine

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// scratch is covered by what takes the machine's changes. Only in the guest's own mount namespace, so any
// directory that every host has will do, and none has to be made.
const scratch = "/tmp"

// toNamespaceRoot changes to the root of the mount namespace, which setns(2) leads to. It is another one than the
// program's in a chroot: a machine that pivots there does boot, but where nobody sees it who enters its namespace.
func toNamespaceRoot() error {
	namespace, err := unix.Open("/proc/self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(namespace)
	return unix.Setns(namespace, unix.CLONE_NEWNS)
}

// partFromHost keeps what is mounted and unmounted here from reaching the host, outside of a chroot too: pivot detaches
// all of the namespace. Then it goes back into the chroot, where the paths of the binds are meant.
func partFromHost() error {
	own, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(own)
	return runSteps([]step{
		{"leave a chroot", toNamespaceRoot},
		{"make the mounts private", func() error { return mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"change to the own root", func() error { return unix.Fchdir(own) }},
		{"go back into the chroot", func() error { return unix.Chroot(".") }},
	})
}

// isUsed reports whether a machine has had the disk before.
func isUsed(disk string) bool {
	entries, err := os.ReadDir(disk)
	return err == nil && len(entries) > 0
}

// overlayRoot mounts the machine's root over the files below root, its changes on disk or ("") in memory, and over it
// those parts of the host's files that are file systems of their own: an overlay shows only the file system that its
// lower directory is on.
func overlayRoot(root, disk string) error {
	parts, err := fileSystemsOf(root)
	if err != nil {
		return err
	}
	// Held open, since scratch may hide the path.
	held, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(held)
	if disk != "" {
		err = mount(disk, scratch, "", unix.MS_BIND, "")
	} else {
		err = mount("tmpfs", scratch, "tmpfs", 0, "mode=0755")
	}
	if err != nil {
		return err
	}
	for i, part := range parts {
		lower := fmt.Sprintf("/proc/self/fd/%d%s", held, part)
		upper, work := fmt.Sprintf("%s/upper-%d", scratch, i), fmt.Sprintf("%s/work-%d", scratch, i)
		for _, dir := range []string{upper, work, scratch + "/root"} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		// An overlay's root directory takes its mode and owner from the upper layer.
		if err := copyOwner(lower, upper); err != nil {
			return err
		}
		escape := strings.NewReplacer(`\`, `\\`, ",", `\,`, ":", `\:`)
		data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", escape.Replace(lower), upper, work)
		if err := mount("overlay", scratch+"/root"+part, "overlay", 0, data); err != nil {
			return err
		}
	}
	return nil
}

// fileSystemsOf lists "/" and, of the host's own root, the directories on which further file systems are mounted
// that belong to the system; outer before inner.
func fileSystemsOf(root string) ([]string, error) {
	parts := []string{"/"}
	if root != "/" {
		return parts, nil
	}
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		top, _, _ := strings.Cut(strings.TrimPrefix(m.point, "/"), "/")
		onDisk := slices.Contains([]string{"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs"}, m.fsType)
		ofSystem := slices.Contains([]string{"etc", "home", "opt", "root", "srv", "usr", "var"}, top)
		if st, err := os.Stat(m.point); onDisk && ofSystem && err == nil && st.IsDir() {
			parts = append(parts, m.point)
		}
	}
	slices.Sort(parts)
	return slices.Compact(parts), nil
}

func copyOwner(from, to string) error {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return err
	}
	return errors.Join(unix.Chown(to, int(st.Uid), int(st.Gid)), unix.Chmod(to, st.Mode&0o7777))
}

// pivot makes the overlay the root and lets go of the host's: pivot_root(".", ".") stacks the old root on the new
// one (pivot_root(2)), where it is detached.
func pivot() error {
	root, err := unix.Open(scratch+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	return runSteps([]step{
		{"leave a chroot", toNamespaceRoot},
		{"change to the overlay", func() error { return unix.Fchdir(root) }},
		{"pivot", func() error { return unix.PivotRoot(".", ".") }},
		{"detach the host's root", func() error { return unix.Unmount(".", unix.MNT_DETACH) }},
		{"change to the new root", func() error { return unix.Chdir("/") }},
	})
}
