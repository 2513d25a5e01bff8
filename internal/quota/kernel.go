package quota

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attributes is struct fsxattr of linux/fs.h.
type attributes struct {
	Flags, extentSize, extents, Project, cowExtentSize uint32
	_                                                  [8]byte
}

// From linux/fs.h, as on all machines with the generic encoding of ioctls.
const (
	projectInherit = 0x200 // FS_XFLAG_PROJINHERIT
	getAttribute   = 0x801c581f
	setAttribute   = 0x401c5820
)

func getAttributes(fd int, a *attributes) error { return ioctl(fd, getAttribute, a) }

func setAttributes(fd int, a *attributes) error { return ioctl(fd, setAttribute, a) }

func ioctl(fd int, request uintptr, a *attributes) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(a))); errno != 0 {
		return errno
	}
	return nil
}

// The commands of linux/dqblk_xfs.h, which ext4 answers too, for projects.
const (
	projects    = 2
	getQuota    = ('X'<<8+3)<<8 | projects
	setLimits   = ('X'<<8+4)<<8 | projects
	getState    = ('X'<<8+5)<<8 | projects
	enforcement = 1 << 5 // FS_QUOTA_PDQ_ENFD
	block       = 512    // bytes, in which space is given
)

// limits is struct fs_disk_quota of linux/dqblk_xfs.h.
type limits struct {
	version, flags                           int8
	fields                                   uint16
	id                                       uint32
	blocksHard, blocksSoft                   uint64
	filesHard, filesSoft                     uint64
	blocks, files                            uint64
	filesTimer, blocksTimer                  int32
	filesWarnings, blocksWarnings            uint16
	_                                        int32
	realtimeHard, realtimeSoft, realtimeUsed uint64
	realtimeTimer                            int32
	realtimeWarnings                         uint16
	_                                        int16
	_                                        [8]byte
}

// enforced reports whether the file system of an open file refuses what is beyond the limit of a project.
func enforced(fd int) bool {
	var state struct { // fs_quota_stat
		version int8
		flags   uint16
		_       [76]byte
	}
	err := quotactl(fd, getState, 0, unsafe.Pointer(&state))
	return err == nil && state.flags&enforcement != 0
}

// amounts are the limit of a project, and what it has.
func amounts(fd int, project uint32) (limit, used Amount, err error) {
	var q limits
	err = quotactl(fd, getQuota, project, unsafe.Pointer(&q))
	if errors.Is(err, unix.ENOENT) { // nothing is in it, and nothing limits it
		return limit, used, nil
	}
	if err != nil {
		return limit, used, fmt.Errorf("cannot read the quota of project %d: %w", project, err)
	}
	return Amount{q.blocksHard * block, q.filesHard}, Amount{q.blocks * block, q.files}, nil
}

// setLimit sets the limit of a project; zero is none.
func setLimit(fd int, project uint32, limit Amount) error {
	const filesSoft, filesHard, blocksSoft, blocksHard = 1, 2, 4, 8
	q := limits{
		version: 1, flags: 2, fields: filesSoft | filesHard | blocksSoft | blocksHard, id: project,
		blocksHard: limit.Bytes / block, filesHard: limit.Files,
	}
	if err := quotactl(fd, setLimits, project, unsafe.Pointer(&q)); err != nil {
		return fmt.Errorf("cannot set the quota of project %d: %w", project, err)
	}
	return nil
}

// quotactl is quotactl_fd(2), of Linux 5.14.
func quotactl(fd, command int, project uint32, data unsafe.Pointer) error {
	if _, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, uintptr(fd), uintptr(command), uintptr(project), uintptr(data), 0, 0); errno != 0 {
		return errno
	}
	return nil
}
