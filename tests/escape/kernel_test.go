package escape

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelProbes: parts of the kernel that an agent's work does not need, and that had many of the known ways to become
// root. Their arguments are ones that root gets another error for, where success would do harm.
var kernelProbes = []probe{
	try("namespace-user", "makes a user namespace", cloned(unix.CLONE_NEWUSER), "EPERM"),
	try("namespace-mount", "makes a mount namespace", sys(unix.SYS_UNSHARE, unix.CLONE_NEWNS), "EPERM"),
	try("namespace-pid", "makes a namespace of processes", sys(unix.SYS_UNSHARE, unix.CLONE_NEWPID), "EPERM"),
	try("namespace-net", "makes a network namespace", sys(unix.SYS_UNSHARE, unix.CLONE_NEWNET), "EPERM"),
	try("namespace-ipc", "makes a namespace of shared memory and queues", sys(unix.SYS_UNSHARE, unix.CLONE_NEWIPC), "EPERM"),
	try("namespace-uts", "makes a namespace of host names", sys(unix.SYS_UNSHARE, unix.CLONE_NEWUTS), "EPERM"),
	try("namespace-cgroup", "makes a namespace of control groups", sys(unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP), "EPERM"),
	try("namespace-time", "makes a namespace of clocks", sys(unix.SYS_UNSHARE, unix.CLONE_NEWTIME), "EPERM"),
	try("namespace-all", "makes namespaces with a user namespace in one step (unshare -Ur)", shell("unshare -Urmpf true"), "EPERM"),
	try("clone3", "makes a namespace by clone3(2), whose flags no filter sees", sys(unix.SYS_CLONE3, 0, 0), "ENOSYS"),
	try("setns", "enters a namespace that it is in already", withFile("/proc/self/ns/net", unix.O_RDONLY, unix.SYS_SETNS, 0), "EPERM"),
	try("chroot", "changes its root", sys(unix.SYS_CHROOT, "/"), "EPERM"),
	try("pivot-root", "exchanges its root", sys(unix.SYS_PIVOT_ROOT, "/none", "/none"), "EPERM"),
	try("fsopen", "opens a file system to mount it", sys(unix.SYS_FSOPEN, "tmpfs", 0), "EPERM"),
	try("fsconfig", "configures a mount", sys(unix.SYS_FSCONFIG, -1, 0, 0, 0, 0), "EPERM"),
	try("fsmount", "makes a mount", sys(unix.SYS_FSMOUNT, -1, 0, 0), "EPERM"),
	try("fspick", "takes up a mount to change it", sys(unix.SYS_FSPICK, unix.AT_FDCWD, "/none", 0), "EPERM"),
	try("open-tree", "copies a tree of mounts", sys(unix.SYS_OPEN_TREE, unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE), "EPERM"),
	try("move-mount", "moves a mount", sys(unix.SYS_MOVE_MOUNT, -1, "", -1, "", unix.MOVE_MOUNT_F_EMPTY_PATH), "EPERM"),
	try("mount-setattr", "makes a mount writable", sys(unix.SYS_MOUNT_SETATTR, -1, "", unix.AT_EMPTY_PATH, make([]byte, 32), 32), "EPERM"),

	try("bpf-map", "makes a BPF map", sys(unix.SYS_BPF, unix.BPF_MAP_CREATE, make([]byte, 72), 72), "EPERM"),
	try("bpf-program", "loads a BPF program", sys(unix.SYS_BPF, unix.BPF_PROG_LOAD, make([]byte, 72), 72), "EPERM"),
	try("userfaultfd", "handles page faults itself, in user mode only", sys(unix.SYS_USERFAULTFD, 1), "EPERM").compare(depends),
	try("userfaultfd-kernel", "handles page faults of the kernel too", sys(unix.SYS_USERFAULTFD, 0), "EPERM").compare(depends),
	try("io-uring", "makes an io_uring, whose operations no filter sees", sys(unix.SYS_IO_URING_SETUP, 8, make([]byte, 120)), "EPERM").compare(depends),
	try("io-uring-enter", "hands operations to an io_uring", sys(unix.SYS_IO_URING_ENTER, -1, 0, 0, 0, 0, 0), "EPERM").compare(depends),
	try("io-uring-register", "registers buffers with an io_uring", sys(unix.SYS_IO_URING_REGISTER, -1, 0, 0, 0), "EPERM").compare(depends),
	try("perf", "counts events of the processor", perf(0), "EPERM").compare(depends),
	try("perf-kernel", "samples the kernel", perf(-1), "EPERM").compare(depends),
	try("kexec", "loads another kernel", sys(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0xffff), "EPERM"),
	try("kexec-file", "loads another kernel from a file", sys(unix.SYS_KEXEC_FILE_LOAD, -1, -1, 0, 0, 0xffff), "EPERM"),
	try("module", "loads a kernel module", sys(unix.SYS_INIT_MODULE, 0, 0, ""), "EPERM"),
	try("module-file", "loads a kernel module from a file", sys(unix.SYS_FINIT_MODULE, -1, "", 0), "EPERM"),
	try("module-delete", "removes a kernel module", sys(unix.SYS_DELETE_MODULE, "there-is-none", unix.O_NONBLOCK), "EPERM"),
	try("reboot", "reboots", sys(unix.SYS_REBOOT, 0, 0, 0, 0), "EPERM"),
	try("swapon", "adds swap space", sys(unix.SYS_SWAPON, "/none", 0), "EPERM"),
	try("swapoff", "takes swap space away", sys(unix.SYS_SWAPOFF, "/none"), "EPERM"),
	try("quota", "changes quotas", sys(unix.SYS_QUOTACTL, 0x800002<<8, "/none", 0, 0), "EPERM"),
	try("accounting", "turns on process accounting", sys(unix.SYS_ACCT, "/none"), "EPERM"),
	try("clock-set", "sets the clock", sys(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, impossibleTime()), "EPERM"),
	try("time-of-day", "sets the time of day", sys(unix.SYS_SETTIMEOFDAY, impossibleTime(), 0), "EPERM"),
	try("clock-adjust", "changes the speed of the clock", adjusted(func(t *unix.Timex) error { _, err := unix.Adjtimex(t); return err }), "EPERM"),
	try("clock-adjust-other", "changes it by clock_adjtime(2)", adjusted(func(t *unix.Timex) error { _, err := unix.ClockAdjtime(unix.CLOCK_REALTIME, t); return err }), "EPERM"),
	try("host-name", "renames the host", sys(unix.SYS_SETHOSTNAME, "", -1), "EPERM"),
	try("domain-name", "renames the host's domain", sys(unix.SYS_SETDOMAINNAME, "", -1), "EPERM"),
	try("kernel-log", "reads the kernel log by syslog(2)", sys(unix.SYS_SYSLOG, unix.SYSLOG_ACTION_READ_ALL, make([]byte, 64), 64), "EPERM"),
	try("kernel-log-size", "asks how long the kernel log is", sys(unix.SYS_SYSLOG, unix.SYSLOG_ACTION_SIZE_BUFFER, 0, 0), "EPERM"),
	try("personality", "switches to another personality", sys(unix.SYS_PERSONALITY, 8), "EPERM"),
	try("randomisation", "turns off the randomisation of addresses", sys(unix.SYS_PERSONALITY, 0x0040000), "EPERM"),
	try("handle-open", "opens a file by an invented handle", sys(unix.SYS_OPEN_BY_HANDLE_AT, -1, make([]byte, 16), 0), "EPERM"),
	try("fanotify", "watches or blocks opening files for everybody", sys(unix.SYS_FANOTIFY_INIT, unix.FAN_CLASS_CONTENT, 0), "EPERM"),
	try("fanotify-mark", "marks a file system to watch", sys(unix.SYS_FANOTIFY_MARK, -1, 0, 0, 0, 0), "EPERM"),
	try("memory-policy", "says from where its memory comes", sys(unix.SYS_SET_MEMPOLICY, 0, 0, 0), "EPERM"),
	try("memory-bind", "binds memory to a node", sys(unix.SYS_MBIND, 0, 0, 0, 0, 0, 0), "EPERM"),
	try("cookie", "asks for what profilers use (lookup_dcookie)", sys(unix.SYS_LOOKUP_DCOOKIE, 0, 0, 0), "EPERM").compare(depends),
	try("io-ports", "gets at the ports of devices", portAccess, "EPERM").with("processor amd64"),
	try("io-ports-some", "gets at one port of a device", somePortAccess, "EPERM").with("processor amd64"),
	try("local-descriptors", "changes its table of segments (modify_ldt)", localDescriptors, "EPERM").with("processor amd64"),
	try("calls-32-bit", "makes a 32-bit system call (int 0x80)", executed(program32), "killed").with("processor amd64").compare(depends),
	try("calls-x32", "makes a system call of the x32 kind", executed(programX32), "killed").with("processor amd64"),

	may("memory-program", "runs a program that exists in memory only (memfd)", memoryProgram, "just-in-time compilers and package managers do; it has no more rights than any"),
	may("writable-code", "makes memory both writable and executable", func() error {
		m, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		return unix.Munmap(m)
	}, "the JavaScript engine of opencode compiles so"),
	may("landlock", "asks for the version of Landlock", sys(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, 1), "a program can confine itself further").with("landlock"),
	may("inotify", "watches its files", sys(unix.SYS_INOTIFY_INIT1, 0), "opencode and build tools do"),
}

// impossibleTime is one that the kernel sets for nobody: 2 s worth of nanoseconds.
func impossibleTime() []byte {
	t := make([]byte, 16)
	*(*int64)(unsafe.Pointer(&t[8])) = 2e9
	return t
}

// adjusted asks for a tick of 0, which is out of range for everybody who may ask.
func adjusted(adjust func(*unix.Timex) error) call {
	return func() error { return adjust(&unix.Timex{Modes: unix.ADJ_TICK}) }
}

// perf counts by the clock, of this process (0) or of everything on the first core (-1).
func perf(pid int) call {
	return func() error {
		cpu := 0
		if pid == 0 {
			cpu = -1
		}
		attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Config: unix.PERF_COUNT_SW_CPU_CLOCK}
		fd, err := unix.PerfEventOpen(&attr, pid, cpu, -1, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

// memoryProgram runs a copy of true.
func memoryProgram() error {
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		return err
	}
	return executed(program)()
}

// socketProbes: sockets of the families and kinds that carry no ordinary traffic.
var socketProbes = []probe{
	try("packet", "reads packets of others (AF_PACKET)", socket(unix.AF_PACKET, unix.SOCK_RAW, 0), "EAFNOSUPPORT"),
	try("vsock", "talks to the hypervisor (AF_VSOCK)", socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0), "EAFNOSUPPORT").compare(depends),
	try("crypto", "uses the kernel's ciphers (AF_ALG)", socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0), "EAFNOSUPPORT").compare(depends),
	try("key-socket", "manages IPsec keys (AF_KEY)", socket(unix.AF_KEY, unix.SOCK_RAW, 2), "EAFNOSUPPORT").compare(depends),
	try("xdp", "bypasses the network stack (AF_XDP)", socket(unix.AF_XDP, unix.SOCK_RAW, 0), "EAFNOSUPPORT").compare(depends),
	try("bluetooth", "uses Bluetooth", socket(unix.AF_BLUETOOTH, unix.SOCK_RAW, 1), "EAFNOSUPPORT").compare(depends),
	try("can", "uses a CAN bus", socket(unix.AF_CAN, unix.SOCK_RAW, 1), "EAFNOSUPPORT").compare(depends),
	try("tipc", "uses TIPC", socket(unix.AF_TIPC, unix.SOCK_STREAM, 0), "EAFNOSUPPORT").compare(depends),
	try("rds", "uses RDS", socket(unix.AF_RDS, unix.SOCK_SEQPACKET, 0), "EAFNOSUPPORT").compare(depends),
	try("smc", "uses SMC", socket(unix.AF_SMC, unix.SOCK_STREAM, 0), "EAFNOSUPPORT").compare(depends),
	try("nfc", "uses NFC", socket(unix.AF_NFC, unix.SOCK_SEQPACKET, 1), "EAFNOSUPPORT").compare(depends),
	try("socket-pair", "makes a pair of sockets of a rare family", func() error {
		_, err := unix.Socketpair(unix.AF_TIPC, unix.SOCK_STREAM, 0)
		return err
	}, "EAFNOSUPPORT").compare(depends),
	try("raw", "makes a raw IPv4 socket", socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP), "EPERM"),
	try("raw6", "makes a raw IPv6 socket", socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6), "EPERM"),
	try("low-port", "listens on a port below 1024", listened("127.0.0.1:81"), "EACCES"),
	try("mark", "marks its packets past the rules (SO_MARK)", option(unix.SOL_SOCKET, unix.SO_MARK), "EPERM"),
	try("transparent", "sends from addresses that are not the host's (IP_TRANSPARENT)", option(unix.SOL_IP, unix.IP_TRANSPARENT), "EPERM"),
	try("force-buffer", "takes more memory for a socket than it may (SO_RCVBUFFORCE)", option(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE), "EPERM"),
	try("link-change", "takes the loopback device down, by netlink", netlink(unix.NETLINK_ROUTE, unix.RTM_SETLINK, 0, linkBody()), "EPERM"),
	try("address-change", "adds an address to a device", netlink(unix.NETLINK_ROUTE, unix.RTM_NEWADDR, 0, make([]byte, unix.SizeofIfAddrmsg)), "EPERM"),
	try("route-change", "adds a route", netlink(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, 0, []byte{255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0}), "EPERM"),
	try("rule-change", "adds a rule of routing", netlink(unix.NETLINK_ROUTE, unix.RTM_NEWRULE, 0, []byte{255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}), "EPERM"),
	try("queue-change", "changes how packets are queued", netlink(unix.NETLINK_ROUTE, unix.RTM_NEWQDISC, 0, make([]byte, 20)), "EPERM"),
	try("egress-rules", "lists the egress rules", netlink(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP, make([]byte, 4)), "EPERM"),
	try("egress-table", "adds a table of rules", shell("nft add table inet of-alpha && nft delete table inet of-alpha"), "EPERM").with("command nft"),
	try("egress-delete", "deletes the table of its own egress rules", shell("nft delete table inet there-is-none"), "EPERM").with("command nft"),
	try("audit", "reads the audit log", netlink(unix.NETLINK_AUDIT, unix.AUDIT_GET, 0, nil), "ECONNREFUSED").compare(depends),
	try("ipsec", "lists the policies of IPsec", netlink(unix.NETLINK_XFRM, 0x15, unix.NLM_F_DUMP, make([]byte, 64)), "EPERM").compare(depends),

	may("addresses", "lists addresses by netlink", netlink(unix.NETLINK_ROUTE, unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg)), "libraries that resolve names and listen do so"),
	may("datagram-pair", "makes a pair of Unix sockets", func() error {
		_, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		return err
	}, "processes of an instance talk to each other"),
}

// linkBody is a struct ifinfomsg of a device that there is not.
func linkBody() []byte {
	body := make([]byte, unix.SizeofIfInfomsg)
	(*unix.IfInfomsg)(unsafe.Pointer(&body[0])).Index = 1 << 20
	return body
}

func option(level, name int) call {
	return func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		return unix.SetsockoptInt(s, level, name, 1)
	}
}

// Programs that make one system call, getpid, and exit with the number of its error: a 32-bit call, one of x32.
var (
	program32  = elf(append([]byte{0xb8, 20, 0, 0, 0, 0xcd, 0x80}, exit...))    // mov eax, 20; int 0x80
	programX32 = elf(append([]byte{0xb8, 39, 0, 0, 0x40, 0x0f, 0x05}, exit...)) // mov eax, 0x40000027; syscall
)

var exit = []byte{
	0x31, 0xff, // xor edi, edi
	0x85, 0xc0, // test eax, eax
	0x79, 2, // jns +2
	0x29, 0xc7, // sub edi, eax
	0xb8, 60, 0, 0, 0, // mov eax, 60: exit, of the 64-bit calls
	0x0f, 0x05, // syscall
}

// elf is a program for x86-64 that consists of this code.
func elf(code []byte) []byte {
	const base, headers = 0x400000, 64 + 56
	h := make([]byte, headers, headers+len(code))
	copy(h, "\x7fELF\x02\x01\x01")
	put := func(at int, size int, v uint64) {
		for i := range size {
			h[at+i] = byte(v >> (8 * i))
		}
	}
	put(16, 2, 2)            // an executable
	put(18, 2, 62)           // for x86-64
	put(20, 4, 1)            // version
	put(24, 8, base+headers) // where it begins
	put(32, 8, 64)           // where the program header is
	put(52, 2, 64)           // size of this header
	put(54, 2, 56)           // size of a program header
	put(56, 2, 1)            // one of them:
	put(64, 4, 1)            // load
	put(68, 4, 5)            // to be read and executed
	put(80, 8, base)         // where to
	put(88, 8, base)
	put(96, 8, uint64(headers+len(code)))
	put(104, 8, uint64(headers+len(code)))
	put(112, 8, 4096)
	return append(h, code...)
}

// called makes a system call that not every processor has.
func called(trap uintptr, a, b, c uintptr) error {
	_, _, errno := syscall.Syscall(trap, a, b, c)
	return errnoOf(errno)
}
