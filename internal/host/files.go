package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/opencoded/opencoded/internal/plan"
)

// writeFile puts a file in place so that a reader, or a host after a power cut,
// finds the old content or the new and nothing between. The directory is root's.
// The temporary name is fixed: what a kill leaves behind, the next run reuses.
func writeFile(f plan.File) error {
	dir, base := filepath.Split(f.Path)
	temporary := filepath.Join(dir, "."+base+".opencoded-new")
	if err := writeTemporary(temporary, f); err != nil {
		return fmt.Errorf("cannot write %s: %w", f.Path, err)
	}
	if err := os.Rename(temporary, f.Path); err != nil {
		return fmt.Errorf("cannot write %s: %w", f.Path, err)
	}
	return syncDir(dir)
}

func writeTemporary(path string, f plan.File) error {
	// A left-over might have looser permissions than the secret to come.
	if err := os.Remove(path); err != nil && !isNotExist(err) {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = out.WriteString(f.Content)
	return errors.Join(
		err,
		out.Chown(int(f.UID), int(f.GID)),
		out.Chmod(f.Mode),
		out.Sync(),
		out.Close(),
	)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// removeFile removes a file for good; an absent one is no error.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !isNotExist(err) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// makeDir creates a directory or corrects its owner and mode. Where an instance
// could have a hand in the path, no symbolic link is followed on the way.
func makeDir(d plan.Dir) error {
	parent, err := openParent(d)
	if err != nil {
		return fmt.Errorf("cannot create %s: %w", d.Path, err)
	}
	defer unix.Close(parent)
	name := filepath.Base(d.Path)
	err = unix.Mkdirat(parent, name, 0o700)
	created := err == nil
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("cannot create %s: %w", d.Path, err)
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot create %s: %w (something else is in its place: move it away)", d.Path, err)
	}
	dir := os.NewFile(uintptr(fd), d.Path)
	defer dir.Close()
	if d.Adopt && !created {
		return nil
	}
	if err := ownDir(dir, d, created); err != nil {
		return err
	}
	return unix.Fsync(parent)
}

// ownDir sets owner and mode through the open directory, after making sure that
// it is the one that was made, or already root's or the instance's.
func ownDir(dir *os.File, d plan.Dir, created bool) error {
	info, err := dir.Stat()
	if err != nil {
		return err
	}
	uid := info.Sys().(*syscall.Stat_t).Uid
	if uid != 0 && (created || uid != d.UID) {
		return fmt.Errorf("cannot take over %s: it belongs to uid %d (move it away)", d.Path, uid)
	}
	return errors.Join(dir.Chown(int(d.UID), int(d.GID)), dir.Chmod(d.Mode))
}

// openParent opens the directory in which d lies, creating root-owned parents.
func openParent(d plan.Dir) (int, error) {
	parent := filepath.Dir(d.Path)
	if d.Below != "" && d.Path != d.Below {
		base, err := unix.Open(d.Below, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		defer unix.Close(base)
		rest, err := filepath.Rel(d.Below, parent)
		if err != nil {
			return -1, err
		}
		return unix.Openat2(base, rest, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
		})
	}
	how := &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC}
	if !ownedByRoot(parent) {
		// Somebody else could swap a part of the path while it is walked.
		how.Resolve = unix.RESOLVE_NO_SYMLINKS
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, parent, how)
	if errors.Is(err, unix.ENOENT) && parent != d.Path {
		if err := makeDir(plan.Dir{Path: parent, Mode: 0o755, Adopt: true}); err != nil {
			return -1, err
		}
		fd, err = unix.Openat2(unix.AT_FDCWD, parent, how)
	}
	if errors.Is(err, unix.ELOOP) {
		return -1, fmt.Errorf("%s leads through a symbolic link that is not root's (create the directory yourself)", parent)
	}
	return fd, err
}

// ownedByRoot reports whether every existing part of a path, links included, is
// root's.
func ownedByRoot(path string) bool {
	for _, p := range prefixes(path) {
		info, err := os.Lstat(p)
		if err != nil {
			return isNotExist(err)
		}
		if info.Sys().(*syscall.Stat_t).Uid != 0 {
			return false
		}
	}
	return true
}

// makeLink points a symbolic link in a directory of the instance somewhere. The
// instance may change what lies there at any time; os.Root keeps all of it below
// the directory.
func makeLink(l plan.Link) error {
	root, err := os.OpenRoot(l.Below)
	if err != nil {
		return err
	}
	defer root.Close()
	if info, err := root.Lstat(l.Name); err == nil && info.Mode().Type() == fs.ModeSymlink {
		if err := root.Remove(l.Name); err != nil {
			return err
		}
	}
	if err := root.Symlink(l.Target, l.Name); err != nil {
		return fmt.Errorf("cannot create the link %s: %w", filepath.Join(l.Below, l.Name), err)
	}
	return nil
}

// look reports what is at a path; with read, the content of a regular file too.
// What lies below a directory of an instance is never read: it could be replaced
// by something that never ends.
func look(path string, read bool) (plan.Path, error) {
	info, err := os.Lstat(path)
	if isNotExist(err) {
		return plan.Path{}, nil
	}
	if err != nil {
		return plan.Path{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	p := plan.Path{
		Exists: true, Type: info.Mode().Type(), Mode: permissions(info.Mode()), UID: st.Uid, GID: st.Gid,
	}
	switch {
	case p.Type == 0 && read:
		text, err := os.ReadFile(path)
		p.Content = string(text)
		return p, err
	case p.Type == fs.ModeSymlink:
		p.Content, err = os.Readlink(path)
	}
	return p, err
}

// permissions keeps the bits that chmod sets; setuid and its kin count as a
// difference.
func permissions(m fs.FileMode) fs.FileMode {
	return m & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
}
