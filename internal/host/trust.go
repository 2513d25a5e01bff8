package host

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// trusted says why a path cannot be believed: root reads it to decide, so it and
// all that leads to it must be root's and writable by nobody else, as sshd and
// sudo require of their files. nil means that it can.
func trusted(path string) error {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for _, p := range []string{path, resolved} {
		for _, prefix := range prefixes(p) {
			info, err := os.Lstat(prefix)
			if err != nil {
				return err
			}
			st := info.Sys().(*syscall.Stat_t)
			if st.Uid != 0 {
				return fmt.Errorf("%s belongs to uid %d, not to root: chown root %s", prefix, st.Uid, prefix)
			}
			if info.Mode().Type() == fs.ModeSymlink {
				continue // its mode means nothing; where it leads is in resolved
			}
			// Group 0 is root's own. In a sticky directory a group can add files and not replace root's, and each part of
			// the path is root's: so is the store of Nix, 1775 root:nixbld.
			sticky := info.IsDir() && info.Mode()&fs.ModeSticky != 0
			if m := info.Mode().Perm(); m&0o002 != 0 || m&0o020 != 0 && st.Gid != 0 && !sticky {
				return fmt.Errorf("%s can be written by others (%04o): chmod go-w %s", prefix, m, prefix)
			}
		}
	}
	return nil
}

// prefixes lists a path and its parents, the root first.
func prefixes(path string) []string {
	out := []string{"/"}
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			out = append(out, path[:i])
		}
	}
	if path != "/" {
		out = append(out, path)
	}
	return out
}

// identity is who asks for access.
type identity struct {
	uid  uint32
	gids []uint32
}

// canWrite reports whether someone could write a file, by its owner and mode;
// access control lists are seen as the group bits that they imply.
func (id identity) canWrite(info fs.FileInfo) bool { return id.allowed(info, 0o2) }

func (id identity) allowed(info fs.FileInfo, bit fs.FileMode) bool {
	st := info.Sys().(*syscall.Stat_t)
	m := info.Mode().Perm()
	if st.Uid == id.uid {
		return m&(bit<<6) != 0
	}
	for _, g := range id.gids {
		if st.Gid == g {
			return m&(bit<<3) != 0
		}
	}
	return m&bit != 0
}

// replaceable names the first part of a path that someone could change or
// replace; "" means none. A sticky directory protects what others own in it.
func (id identity) replaceable(path string) string {
	for _, p := range prefixes(path) {
		info, err := os.Stat(p)
		if err != nil {
			return ""
		}
		if info.IsDir() && info.Mode()&os.ModeSticky != 0 {
			continue
		}
		if info.Sys().(*syscall.Stat_t).Uid == id.uid || id.canWrite(info) {
			return p
		}
	}
	return ""
}

// under reports whether path is one of the directories or lies below one.
func under(path string, dirs ...string) bool {
	for _, d := range dirs {
		if path == d || strings.HasPrefix(path, strings.TrimSuffix(d, "/")+"/") {
			return true
		}
	}
	return false
}
