package machine

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// guestErrors is the descriptor on which the guest tells the keeper why it could not become systemd.
const guestErrors = 3

// becomeMachine is the guest's main. It returns, with the exit code, only if it fails.
func becomeMachine() int {
	unix.CloseOnExec(guestErrors)
	err := buildMachine()
	if err == nil {
		err = execSystemd()
	}
	fmt.Fprint(os.NewFile(guestErrors, "errors"), err)
	return 1
}

func buildMachine() error {
	var sp spec
	if err := json.NewDecoder(os.Stdin).Decode(&sp); err != nil {
		return fmt.Errorf("cannot read what machine to be: %w", err)
	}
	unix.Umask(0) // the modes below are meant as they are written
	var binds []heldBind
	used := sp.Disk != "" && isUsed(sp.Disk)
	return runSteps([]step{
		{"name the machine", func() error { return unix.Sethostname([]byte(sp.Name)) }},
		{"bring the loopback device up", loopbackUp},
		// setns(2) refuses a thread that shares its root with others, as Go's do.
		{"have a root of its own", func() error { return unix.Unshare(unix.CLONE_FS) }},
		{"part from the host's mounts", partFromHost},
		{"hold the bind sources", func() (err error) { binds, err = holdBinds(sp.Binds); return err }},
		{"lay the overlay over the files to start from", func() error { return overlayRoot(sp.Root, sp.Disk) }},
		{"enter the new root", pivot},
		{"mount the API file systems", mountAPI},
		{"make the devices", makeDevices},
		{"leave the past out of the journal", skipKernelLog},
		{"raise the limits", raiseLimits},
		{"settle /etc", func() error {
			if used {
				return nil // as the machine before left it
			}
			return settleEtc(sp.Name)
		}},
		{"bind the host's files", func() error { return placeBinds(binds) }},
		// systemd does this at boot, but not where it believes to be in a container; without it the credentials of
		// a unit (LoadCredential=) cannot be read in it.
		{"share the mounts", func() error { return mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "") }},
	})
}

func mount(source, target, fsType string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fsType, flags, data); err != nil {
		return &os.PathError{Op: "mount " + fsType, Path: target, Err: err}
	}
	return nil
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo)
}

// mountAPI mounts what a kernel gives to a machine. What is not namespaced is read-only, as systemd-nspawn has it:
// nothing inside may set the host's kernel.* or its devices; /proc/sys/net is of the machine's own network.
func mountAPI() error {
	const plain = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		source, target, fsType string
		flags                  uintptr
		data                   string
	}{
		{"proc", "/proc", "proc", plain, ""},
		{"/proc/sys", "/proc/sys", "", unix.MS_BIND, ""},
		{"/proc/sys/net", "/proc/sys/net", "", unix.MS_BIND, ""},
		{"", "/proc/sys", "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | plain, ""},
		{"/proc/sysrq-trigger", "/proc/sysrq-trigger", "", unix.MS_BIND, ""}, // not in every kernel
		{"", "/proc/sysrq-trigger", "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | plain, ""},
		{"sysfs", "/sys", "sysfs", plain | unix.MS_RDONLY, ""},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", plain, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", "/dev", "tmpfs", unix.MS_NOSUID, "mode=0755"},
	} {
		if _, err := os.Lstat(m.target); errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(m.target, "/proc/") {
			continue
		}
		if err := mount(m.source, m.target, m.fsType, m.flags, m.data); err != nil {
			return err
		}
	}
	return nil
}

// makeDevices fills /dev: no udev runs in a machine. kmsg is the host's: journald reads the "log" rules' lines there.
func makeDevices() error {
	for _, d := range []struct {
		name         string
		major, minor uint32
	}{
		{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"kmsg", 1, 11}, {"tty", 5, 0},
	} {
		if err := unix.Mknod("/dev/"+d.name, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("make /dev/%s: %w", d.name, err)
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
		"ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(target, "/dev/"+name); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Mkdir("/dev/pts", 0o755), os.Mkdir("/dev/shm", 0o1777)); err != nil {
		return err
	}
	return errors.Join(
		mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
		mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"))
}

// skipKernelLog makes the journal begin with the machine: what the kernel said before, the "log" rules of earlier
// machines for example, is counted as read in the file in which journald keeps the number of the next record.
func skipKernelLog() error {
	kmsg, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(kmsg)
	var next uint64
	for record := make([]byte, 8192); ; { // one record a read, "priority,number,time,flags;text"
		n, err := unix.Read(kmsg, record)
		if err == unix.EPIPE || err == unix.EINTR {
			continue // overwritten while being read: the next one is older than the last
		}
		if err != nil || n <= 0 {
			break
		}
		if fields := strings.SplitN(string(record[:n]), ",", 3); len(fields) == 3 {
			if number, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
				next = number + 1
			}
		}
	}
	const dir = "/run/systemd/journal"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(dir+"/kernel-seqnum", binary.NativeEndian.AppendUint64(nil, next), 0o644)
}

// raiseLimits gives systemd the open files that it has as the first process of a host, and that D-Bus asks for,
// however few the caller has. Without CAP_SYS_RESOURCE, as in some containers, the caller's limit has to do.
func raiseLimits() error {
	err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: 524288})
	if err == unix.EPERM {
		return nil
	}
	return err
}

// execSystemd turns this process into the machine's systemd.
func execSystemd() error {
	unix.Umask(0o022)
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Dup3(null, 0, 0); err != nil { // the spec came in on it
		return err
	}
	// The caller may have died before Pdeathsig was set; then nobody reads the pipe that reports errors.
	alive := []unix.PollFd{{Fd: guestErrors}}
	if n, _ := unix.Poll(alive, 0); n > 0 && alive[0].Revents&unix.POLLERR != 0 {
		return errors.New("the keeper is gone")
	}
	// Units with ConditionVirtualization=!container, those that deal with hardware, stay out.
	env := []string{"container=" + "opencoded-machine", "PATH=" + searchPath, "LANG=C.UTF-8"}
	program := systemdBinary("/")
	err = unix.Exec(program, []string{program, "--system"}, env)
	return fmt.Errorf("cannot execute %s: %w (apt-get install systemd)", program, err)
}
