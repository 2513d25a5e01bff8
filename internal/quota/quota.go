// Package quota limits the disk space that a directory with all below it takes, by the project quotas of ext4 and XFS:
// every file bears the id of a project, which new files take from their directory, and the kernel counts by it.
//
// It decides nothing. The directory belongs to somebody who may change it meanwhile, and who means harm: see mark.
// They cannot take their files out of the project as long as they are in a user namespace of their own, as under
// PrivateUsers=: outside of the first one the kernel lets nobody change a file's project, or whether new files inherit
// it (fileattr_set_prepare in its fs/file_attr.c, earlier in fs/ioctl.c). The owner of a file in the first one may.
package quota

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Amount is disk space and the number of files, directories included. As a limit, zero means none.
type Amount struct {
	Bytes, Files uint64
}

// State is what holds of a directory.
type State struct {
	Project uint32 // 0 is none
	Inherit bool   // what is made in it gets the project
	Limit   Amount // of the project asked for; 0 where no quotas are in force
	Used    Amount
}

// Unsupported is why a file system keeps to no limits, and what to do.
type Unsupported struct{ Problem, Remedy string }

func (u *Unsupported) Error() string { return u.Problem }

// Check finds out whether the file system of a directory keeps to limits of projects: an *Unsupported if it does not.
// Anybody may ask.
func Check(dir string) error {
	fd, err := open(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if enforced(fd) {
		return nil
	}
	return explain(dir)
}

// explain says what a file system lacks.
func explain(dir string) error {
	m, err := mountOf(dir)
	if err != nil {
		return err
	}
	u := &Unsupported{Problem: fmt.Sprintf("%s is on %s (%s), mounted without project quotas", dir, m.point, m.kind)}
	switch m.kind {
	case "ext4":
		u.Remedy = fmt.Sprintf("with %s unmounted, run tune2fs -O project,quota %s, then mount it with the option prjquota", m.point, m.source)
	case "xfs":
		u.Remedy = fmt.Sprintf("mount %s with the option prjquota; a remount is not enough, and / needs rootflags=prjquota", m.point)
	default:
		u.Problem = fmt.Sprintf("%s is on %s (%s), which has no project quotas", dir, m.point, m.kind)
		u.Remedy = "put the state directory on ext4 or XFS mounted with the option prjquota"
	}
	return u
}

type mounted struct{ point, kind, source string }

// mountOf finds the mount of a directory in proc(5)'s mountinfo: the last line that shows its device.
func mountOf(dir string) (mounted, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_MNT_ID, &st); err != nil {
		return mounted{}, &os.PathError{Op: "statx", Path: dir, Err: err}
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return mounted{}, err
	}
	for l := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(l, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if len(f) > 4 && len(g) > 1 && f[0] == fmt.Sprint(st.Mnt_id) {
			return mounted{point: f[4], kind: g[0], source: g[1]}, nil
		}
	}
	return mounted{}, fmt.Errorf("cannot find the mount of %s in /proc/self/mountinfo", dir)
}

// Look reads what holds of a directory and a project; without the directory nothing does.
func Look(dir string, project uint32) (State, error) {
	var s State
	fd, err := open(dir)
	if errors.Is(err, unix.ENOENT) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	defer unix.Close(fd)
	var a attributes
	switch err := getAttributes(fd, &a); {
	case errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP):
		return s, nil // a file system without projects
	case err != nil:
		return s, &os.PathError{Op: "read the project of", Path: dir, Err: err}
	}
	s.Project, s.Inherit = a.Project, a.Flags&projectInherit != 0
	if enforced(fd) {
		s.Limit, s.Used, err = amounts(fd, project)
	}
	return s, err
}

// Set puts a directory with all below it into a project and limits that. The limit comes last, so that a run that did
// not get to the end is seen. Files that are deleted but still open are not found, and count for nothing.
func Set(dir string, owner, project uint32, limit Amount) error {
	s, err := Look(dir, project)
	if err != nil {
		return err
	}
	fd, err := open(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !enforced(fd) { // ext4 would take the limit, and keep to none
		return explain(dir)
	}
	if s.Project != project || !s.Inherit || s.Limit == (Amount{}) {
		if err := setLimit(fd, project, Amount{}); err != nil {
			return fmt.Errorf("cannot limit %s: %w", dir, err)
		}
		m := marker{owner: owner, from: anyProject, to: project}
		if err := errors.Join(m.mark(fd), m.below(fd, dir)); err != nil {
			return fmt.Errorf("cannot put %s into project %d: %w", dir, project, err)
		}
	}
	if err := setLimit(fd, project, limit); err != nil {
		return fmt.Errorf("cannot limit %s: %w", dir, err)
	}
	return nil
}

// Clear takes the limit away, and the directory with all below it out of the project; the directory itself last, so
// that a run that did not get to the end is seen.
func Clear(dir string, owner, project uint32) error {
	fd, err := open(dir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if enforced(fd) {
		if err := setLimit(fd, project, Amount{}); err != nil {
			return fmt.Errorf("cannot take the limit from %s: %w", dir, err)
		}
	}
	m := marker{owner: owner, from: project}
	if err := m.below(fd, dir); err != nil {
		return fmt.Errorf("cannot take %s out of project %d: %w", dir, project, err)
	}
	return m.mark(fd)
}

func open(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return fd, nil
}
