package quota

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// anyProject stands for whatever project a file is in.
const anyProject = ^uint32(0)

// marker moves files from one project to another.
type marker struct {
	owner    uint32 // whose files are meant, where a file has names elsewhere too
	from, to uint32
}

// below marks all that is below a directory, which is marked already when it is put into a project.
//
// Nothing escapes by being moved about meanwhile: into a directory that hands its project on the kernel lets nothing
// be moved or linked from another project (EXDEV), not even within it. So what leaves a directory that is not listed
// yet can only go to another of that kind. No link is followed and no other file system entered; what is neither file
// nor directory cannot be marked, and takes no space to speak of.
func (m marker) below(dir int, path string) error {
	// A descriptor of its own: the position in the directory is shared otherwise.
	again, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	list := os.NewFile(uintptr(again), path)
	names, err := list.Readdirnames(-1)
	if err := errors.Join(err, list.Close()); errors.Is(err, unix.ENOENT) {
		return nil // deleted meanwhile
	} else if err != nil {
		return err
	}
	for _, name := range names {
		if err := m.entry(dir, name, filepath.Join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

func (m marker) entry(dir int, name, path string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return gone(path, err)
	}
	if !markable(st) {
		return nil
	}
	// O_NONBLOCK: by now it may be a pipe that nobody writes into.
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return gone(path, err)
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !markable(st) || !isDir && st.Nlink > 1 && st.Uid != m.owner {
		return nil // also a file of somebody else's that is linked here
	}
	if err := m.mark(fd); err != nil {
		return &os.PathError{Op: "mark", Path: path, Err: err}
	}
	if isDir {
		return m.below(fd, path)
	}
	return nil
}

func markable(st unix.Stat_t) bool {
	kind := st.Mode & unix.S_IFMT
	return kind == unix.S_IFREG || kind == unix.S_IFDIR
}

// gone is nil where something was taken away or exchanged meanwhile, or is another file system.
func gone(path string, err error) error {
	for _, harmless := range []error{unix.ENOENT, unix.ELOOP, unix.EXDEV, unix.ENXIO} {
		if errors.Is(err, harmless) {
			return nil
		}
	}
	return &os.PathError{Op: "open", Path: path, Err: err}
}

// mark sets the project of an open file, and of a directory that it is handed on.
func (m marker) mark(fd int) error {
	var st unix.Stat_t
	var a attributes
	if err := errors.Join(unix.Fstat(fd, &st), getAttributes(fd, &a)); err != nil {
		return err
	}
	if m.from != anyProject && a.Project != m.from {
		return nil
	}
	was := a
	a.Project = m.to
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		a.Flags |= projectInherit
		if m.to == 0 {
			a.Flags &^= projectInherit
		}
	}
	if a == was {
		return nil
	}
	return setAttributes(fd, &a)
}
