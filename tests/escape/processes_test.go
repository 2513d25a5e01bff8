package escape

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// processProbes: a process of another is neither signalled, stopped, read, nor given priorities; and none takes more
// of the processor than its share.
var processProbes = []probe{
	try("signal-init", "signals the first process", sys(unix.SYS_KILL, 1, 0), "EPERM"),
	try("signal-beta", "signals another instance", sys(unix.SYS_KILL, number("BETA"), 0), "EPERM"),
	try("signal-beta-stop", "lets another instance go on (SIGCONT)", sys(unix.SYS_KILL, number("BETA"), int(unix.SIGCONT)), "EPERM"),
	try("signal-beta-thread", "signals a thread of another instance", sys(unix.SYS_TGKILL, number("BETA"), number("BETA"), 0), "EPERM"),
	try("signal-beta-queue", "queues a signal with a value for another instance", queued("BETA"), "EPERM"),
	try("signal-outside", "signals a process of the same user outside", sys(unix.SYS_KILL, number("OUTSIDE"), 0), "EPERM").with("landlock"),
	try("signal-outside-pidfd", "signals it by a pidfd", withProcess("OUTSIDE", unix.SYS_PIDFD_SEND_SIGNAL, 0, 0, 0), "EPERM").with("landlock"),
	try("signal-beta-pidfd", "signals another instance by a pidfd", withProcess("BETA", unix.SYS_PIDFD_SEND_SIGNAL, 0, 0, 0), "EPERM"),
	try("pidfd-getfd", "takes an open file from another instance", withProcess("BETA", unix.SYS_PIDFD_GETFD, 0, 0), "EPERM"),
	try("pidfd-getfd-outside", "takes an open file from a process of the same user outside", withProcess("OUTSIDE", unix.SYS_PIDFD_GETFD, 0, 0), "EPERM"),
	try("process-madvise", "has the kernel drop pages of another instance", withProcess("BETA", unix.SYS_PROCESS_MADVISE, 0, 0, 0, 0), "EACCES"),
	try("process-mrelease", "has the kernel free the memory of another instance", withProcess("BETA", unix.SYS_PROCESS_MRELEASE, 0), "EPERM"),
	try("setns-pidfd", "enters another instance's namespaces", withProcess("BETA", unix.SYS_SETNS, unix.CLONE_NEWNS), "EPERM").compare(inside),
	try("ptrace-attach", "traces another instance", sys(unix.SYS_PTRACE, unix.PTRACE_SEIZE, number("BETA"), 0, 0), "EPERM"),
	try("ptrace-outside", "traces a process of the same user outside", sys(unix.SYS_PTRACE, unix.PTRACE_SEIZE, number("OUTSIDE"), 0, 0), "EPERM"),
	try("ptrace-server", "traces its own server", sys(unix.SYS_PTRACE, unix.PTRACE_SEIZE, number("ALPHA"), 0, 0), "EPERM"),
	try("ptrace-own", "traces a process of its own (strace, gdb)", sys(unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0, 0), "EPERM"),
	try("vm-read", "reads the memory of another instance", memoryOf(unix.SYS_PROCESS_VM_READV, "BETA"), "EPERM"),
	try("vm-write", "writes to the memory of another instance", memoryOf(unix.SYS_PROCESS_VM_WRITEV, "BETA"), "EPERM"),
	try("vm-read-outside", "reads the memory of a process of the same user outside", memoryOf(unix.SYS_PROCESS_VM_READV, "OUTSIDE"), "EPERM"),
	try("kcmp", "compares its open files with another instance's", sys(unix.SYS_KCMP, number("BETA"), number("BETA"), 0, 0, 0), "EPERM"),
	try("robust-list", "asks where another instance keeps its locks", sys(unix.SYS_GET_ROBUST_LIST, number("BETA"), make([]byte, 8), make([]byte, 8)), "EPERM"),
	try("move-pages", "moves memory of another instance", sys(unix.SYS_MOVE_PAGES, number("BETA"), 0, 0, 0, 0, 0), "EPERM"),
	try("migrate-pages", "moves all memory of another instance", sys(unix.SYS_MIGRATE_PAGES, number("BETA"), 0, 0, 0), "EPERM"),

	try("nice-up", "raises its own priority", sys(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, -5), "EPERM"),
	try("nice-beta", "lowers the priority of another instance", sys(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, number("BETA"), 0), "EPERM"),
	try("nice-user", "lowers the priority of all processes of another user", sys(unix.SYS_SETPRIORITY, unix.PRIO_USER, number("BETA_UID"), 0), "EPERM"),
	try("realtime", "takes a core by real-time scheduling", scheduled(1), "EPERM"),
	try("round-robin", "takes a core by round-robin scheduling", scheduled(2), "EPERM"),
	try("deadline", "takes a core by deadline scheduling", deadline, "EPERM"),
	try("schedule-beta", "changes how another instance is scheduled", sys(unix.SYS_SCHED_SETSCHEDULER, number("BETA"), 0, make([]byte, 4)), "EPERM"),
	try("affinity-beta", "binds another instance to one core", sys(unix.SYS_SCHED_SETAFFINITY, number("BETA"), 0, 0), "EPERM").compare(depends),
	try("io-priority", "takes the disk by real-time priority", sys(unix.SYS_IOPRIO_SET, 1, 0, 1<<13), "EPERM"),
	try("io-priority-beta", "lowers the disk priority of another instance", sys(unix.SYS_IOPRIO_SET, 1, number("BETA"), 0), "EPERM"),
	try("limits-beta", "reads the limits of another instance", sys(unix.SYS_PRLIMIT64, number("BETA"), unix.RLIMIT_NOFILE, 0, make([]byte, 16)), "EPERM"),
	try("limits-raise", "raises its own hard limit of open files", raised, "EPERM").compare(depends),
	try("limits-raise-tasks", "raises the hard limit of its processes", shell("ulimit -u 100; ulimit -Hu unlimited"), "EPERM").compare(depends),

	try("setuid", "becomes root by setuid(2)", sys(unix.SYS_SETUID, 0), "EPERM"),
	try("setresuid", "becomes another instance's user (is told so, for GNU make's sake)", resUser, "stays the instance's user"),
	try("setreuid", "becomes root by setreuid(2)", sys(unix.SYS_SETREUID, 0, 0), "EPERM"),
	try("setfsuid", "opens files as root by setfsuid(2)", sys(unix.SYS_SETFSUID, 0), "EPERM"),
	try("setgid", "takes root's group", sys(unix.SYS_SETGID, 0), "EPERM"),
	try("setgroups", "gives itself groups", sys(unix.SYS_SETGROUPS, 0, 0), "EPERM"),
	try("capset", "gives itself capabilities", capset, "EPERM"),
	try("ambient", "raises a capability for its children", sys(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_NET_RAW, 0, 0), "EPERM").compare(depends),
	try("securebits", "changes how root's rights work", sys(unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, 0, 0, 0, 0), "EPERM"),
	try("new-privileges", "takes back that it can gain no privileges", sys(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), "EINVAL").compare(everybody),
	try("exe-link", "hides which program it is", sys(unix.SYS_PRCTL, unix.PR_SET_MM, unix.PR_SET_MM_EXE_FILE, -1, 0, 0), "EPERM").compare(depends),

	try("key-beta", "reads a key of another instance", sys(unix.SYS_KEYCTL, unix.KEYCTL_READ, number("KEY"), 0, 0), "EACCES").compare(inside),
	try("key-beta-describe", "describes a key of another instance", sys(unix.SYS_KEYCTL, unix.KEYCTL_DESCRIBE, number("KEY"), 0, 0), "EACCES").compare(inside),
	try("key-beta-search", "finds a key of another instance by name", sys(unix.SYS_REQUEST_KEY, "user", "planted", 0, 0), "ENOKEY").compare(inside),
	try("key-persistent", "opens root's persistent keyring", sys(unix.SYS_KEYCTL, unix.KEYCTL_GET_PERSISTENT, 0, unix.KEY_SPEC_PROCESS_KEYRING), "EPERM").compare(depends),

	may("signal-own", "signals a process of its own", func() error { return unix.Kill(os.Getppid(), 0) }, "tools stop what they have started"),
	may("pidfd-open", "opens a pidfd of another instance", withProcess("BETA", unix.SYS_FCNTL, unix.F_GETFD), "process ids are of the host; all that could be done by it is refused"),
	may("limits-lower", "lowers its own limits", shell("ulimit -n 64"), "that takes nothing from anybody"),
	may("affinity-own", "reads on which cores it may run", sys(unix.SYS_SCHED_GETAFFINITY, 0, 128, make([]byte, 128)), "nproc and thread pools ask for it"),
	may("seccomp", "restricts itself further", func() error { return sys(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)() }, "programs confine themselves"),
}

// queued queues the signal 0, which checks rights and sends nothing.
func queued(variable string) call {
	info := make([]byte, 128)
	*(*int32)(unsafe.Pointer(&info[8])) = -1 // SI_QUEUE
	return sys(unix.SYS_RT_SIGQUEUEINFO, number(variable), 0, info)
}

// memoryOf reads from, or writes to, address 0 of a process, where there is nothing.
func memoryOf(trap uintptr, variable string) call {
	return func() error {
		buffer := []byte{0}
		local := unix.Iovec{Base: &buffer[0], Len: 1}
		var remote struct{ base, length uintptr }
		remote.length = 1
		_, _, errno := unix.Syscall6(trap, uintptr(number(variable)()), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
		return errnoOf(errno)
	}
}

func errnoOf(n syscall.Errno) error {
	if n != 0 {
		return n
	}
	return nil
}

func scheduled(policy int) call {
	return sys(unix.SYS_SCHED_SETSCHEDULER, 0, policy, []byte{1, 0, 0, 0})
}

// resUser sets all its user ids to another instance's, and looks whether it has them.
func resUser() error {
	own, uid := os.Getuid(), number("BETA_UID")()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
		return errno
	}
	if now, _, _ := unix.RawSyscall(unix.SYS_GETUID, 0, 0, 0); int(now) == own {
		return outcome("stays the instance's user")
	}
	return nil
}

func deadline() error {
	return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_DEADLINE, Runtime: 1e6, Deadline: 1e7, Period: 1e7}, 0)
}

func raised() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Max++
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}

func capset() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	data[0].Permitted = 1 << unix.CAP_NET_RAW
	return unix.Capset(&header, &data[0])
}
