package tree

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a file back to whom it belonged, which only root has to do.
func keepOwner(name string, before fs.FileInfo) error {
	st, ok := before.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(name, int(st.Uid), int(st.Gid))
}
