package sandbox

import "strings"

// hardening is what every instance runs under, whatever the inventory says. Each
// directive stands beside what it stops. opencode 1.18.33 was seen working with
// all of them; `systemd-analyze security` rates the whole at 1.1, and at 1.0 with
// the IPAddressDeny= of an isolated instance.
//
// What is left of the rating, and why: the server needs the network and sockets
// of these families; MemoryDenyWriteExecute= would break the just-in-time
// compiler of the JavaScript engine; ProcSubset=pid would hide the files from
// which ps, free and nproc answer; UMask= lets a group share a project.
var hardening = []struct{ key, value, stops string }{
	{"NoNewPrivileges", "yes", "gaining rights through setuid programs and file capabilities"},
	{"CapabilityBoundingSet", "", "any capability, even for a process that became root"},
	{"AmbientCapabilities", "", "capabilities handed to children"},
	{"PrivateUsers", "yes", "seeing or acting as any user but its own and nobody"},
	{"PrivateTmp", "yes", "files of others in /tmp and /var/tmp"},
	{"PrivateDevices", "yes", "disks, memory, and all devices but null, zero, random, tty"},
	{"DevicePolicy", "closed", "the same, for device nodes made or passed in later"},
	{"PrivateMounts", "yes", "mounts that appear on the host later"},
	{"ProtectSystem", "strict", "writing to anything that is not given for writing"},
	{"ProtectHome", "tmpfs", "the home directories; a project below one is bound back in"},
	{"ProtectProc", "invisible", "processes of other users in /proc"},
	{"ProtectKernelTunables", "yes", "changing /proc/sys and /sys"},
	{"ProtectKernelModules", "yes", "loading kernel modules"},
	{"ProtectKernelLogs", "yes", "the kernel log"},
	{"ProtectControlGroups", "yes", "changing resource limits, its own included"},
	{"ProtectClock", "yes", "setting the clock"},
	{"ProtectHostname", "yes", "renaming the host"},
	{"LockPersonality", "yes", "switching to rarely tested kernel personalities"},
	{"RestrictRealtime", "yes", "taking a core for itself by real-time scheduling"},
	{"RestrictSUIDSGID", "yes", "leaving setuid and setgid files for others to run"},
	{"RestrictNamespaces", "yes", "namespaces, and the kernel code that only they reach"},
	{"RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK", "packet, vsock, crypto and other rare sockets; netlink is how programs list addresses"},
	{"SystemCallArchitectures", "native", "32-bit system calls, which slip past filters"},
	{"SystemCallFilter", "@system-service", "system calls that no service needs"},
	{"SystemCallFilter", "~@privileged @resources", "those for administrators, and for raising priorities"},
	{"SystemCallFilter", "~setresuid:0 setresgid:0", "(GNU make sets the ids that it has before each command: it is told that they are set. Allowed, they cost 0.1 of the rating)"},
	{"SystemCallFilter", "~io_uring_setup io_uring_enter io_uring_register userfaultfd", "operations that no filter sees, sockets of any family among them; and a means of many exploits"},
	{"SystemCallFilter", "landlock_create_ruleset landlock_add_rule landlock_restrict_self", "(with these a program confines itself: internal/confine does)"},
	{"SystemCallErrorNumber", "EPERM", "(a refused call fails instead of killing the program that tried it)"},
	{"KeyringMode", "private", "keys of other services"},
	{"PrivateIPC", "yes", "shared memory, semaphores and queues of others"},
	{"TemporaryFileSystem", "/dev/shm:mode=1777,nosuid,nodev", "the same, as files and sockets in /dev/shm"},
	{"RemoveIPC", "yes", "shared memory and queues outliving the instance"},
	{"UMask", "0002", "(files stay writable for the project's group; HOME itself is 0700)"},
}

// newerHardening replaces values of hardening from a version of systemd on. Tried
// with opencode and left out: with PrivatePIDs= (257) every stop counts as a
// failure, "signal", since the server is the first process of its namespace and
// SIGTERM means nothing to it; PrivateTmp=disconnected (257) keeps /tmp in memory.
var newerHardening = []struct {
	since             int
	key, value, stops string
}{
	{257, "ProtectControlGroups", "strict", "the same, and seeing which other instances there are"},
}

// addedHardening is what only newer versions know, and need.
var addedHardening = []struct {
	since             int
	key, value, stops string
}{
	{257, "BindLogSockets", "no", "writing into the journal under other names: this version brings its sockets into an own root"},
}

// systemPaths is the part of the host that every instance sees, read-only. A
// missing one is no error: what exists differs between distributions.
var systemPaths = []string{
	"-/usr", "-/bin", "-/sbin", "-/lib", "-/lib32", "-/lib64", "-/libx32", "-/opt", "-/nix", "-/etc",
}

// hiddenPaths lie inside systemPaths and tell about other instances: their
// units (with their environment) and their accounts.
var hiddenPaths = []string{"-+/etc/systemd/system", "-+/etc/sysusers.d"}

// nesting stands for what sandbox.allow_namespaces changes, which bubblewrap needs.
// A file system of processes cannot be mounted in there all the same: the kernel
// wants to see one that nothing covers first (bwrap --ro-bind /proc /proc does).
// The rating rises by 1.0: the kernel code behind namespaces had many of the known
// ways to become root.
var nesting = map[string]string{"RestrictNamespaces": "no"}

const nestingCalls = "@mount capset chroot pivot_root setns"

func (u *unit) hardening(version int, namespaces bool) {
	for _, h := range hardening {
		if relaxed, ok := nesting[h.key]; ok && namespaces {
			h.value = relaxed
		}
		for _, n := range newerHardening {
			if n.key == h.key && version >= n.since {
				h.value = n.value
			}
		}
		u.set(h.key, value(h.value))
	}
	for _, a := range addedHardening {
		if version >= a.since {
			u.set(a.key, value(a.value))
		}
	}
	if namespaces {
		u.set("SystemCallFilter", nestingCalls)
	}
}

// WithoutNamespaces is the text of a unit as it would be without
// sandbox.allow_namespaces.
func WithoutNamespaces(text string) string {
	for _, h := range hardening {
		if relaxed, ok := nesting[h.key]; ok {
			text = strings.Replace(text, h.key+"="+relaxed+"\n", h.key+"="+h.value+"\n", 1)
		}
	}
	return strings.Replace(text, "SystemCallFilter="+nestingCalls+"\n", "", 1)
}
