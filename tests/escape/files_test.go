package escape

import (
	"os"

	"golang.org/x/sys/unix"
)

// fileProbes: what is not bound into the instance's root is not there (ENOENT), the system is read-only (EROFS), and
// what is there for root alone stays so (EACCES).
var fileProbes = []probe{
	// Other instances.
	try("beta-project", "lists another instance's project", read("/srv/beta"), "ENOENT"),
	try("beta-project-file", "reads a world-readable file in another instance's project", read("/srv/beta/secret"), "ENOENT"),
	try("beta-project-write", "writes into another instance's project", create("/srv/beta/new"), "ENOENT"),
	try("beta-state", "lists another instance's HOME", read("$STATE/beta"), "ENOENT"),
	try("beta-state-file", "reads a world-readable file in another instance's HOME", read("$STATE/beta/secret"), "ENOENT"),
	try("beta-state-write", "writes into another instance's HOME", create("$STATE/beta/new"), "ENOENT"),
	try("beta-state-climb", "reaches another HOME by way of ..", read("$INSTANCE_HOME/../beta/secret"), "ENOENT"),
	try("beta-tmp", "reads what another instance has in /tmp", read("/proc/$BETA/root/tmp/of-beta"), "ENOENT"),
	try("beta-configuration", "reads another instance's opencode.json", read("/var/lib/opencoded/instances/beta/config/opencode.json"), "ENOENT"),
	try("beta-password", "reads another instance's password file", read("/var/lib/opencoded/instances/beta/password.env"), "ENOENT"),
	try("alpha-password", "reads its own password file", read("/var/lib/opencoded/instances/alpha/password.env"), "ENOENT"),
	try("beta-environment", "reads another instance's environment file", read("/etc/opencode/beta.env"), "ENOENT"),
	try("beta-credential-source", "reads the file of another instance's credential", read("/etc/opencode/beta.token"), "ENOENT"),
	try("beta-credential", "reads another instance's credential", read("/run/credentials/opencode-beta.service/token"), "ENOENT"),
	try("beta-unit", "reads another instance's unit, which has its environment", read("/etc/systemd/system/opencode-beta.service"), "EACCES"),
	try("units", "lists the units of the host's instances", read("/etc/systemd/system"), "EACCES"),
	try("beta-account", "reads how another instance's account is declared", read("/etc/sysusers.d/opencode-beta.conf"), "EACCES"),
	try("inventory", "reads the inventory", read("/etc/opencode/instances.toml"), "ENOENT"),
	try("policies", "reads the compiled egress policies", read("/var/lib/opencoded/egress.json"), "ENOENT"),
	try("own-root", "reaches the directory that is its root by the host's path", read("/var/lib/opencoded/instances/alpha"), "ENOENT"),

	// The host.
	try("shadow", "reads the password hashes of the host", read("/etc/shadow"), "EACCES"),
	try("gshadow", "reads the group passwords of the host", read("/etc/gshadow"), "EACCES"),
	try("home", "reads a world-readable key in somebody's home directory", read("/home/alice/.ssh/id_ed25519"), "ENOENT"),
	try("root-home", "lists root's home directory", answered("finds nothing", "ls -A /root 2>/dev/null | grep . && exit; echo finds nothing; exit 1"), "finds nothing"),
	try("data", "reads a world-readable file elsewhere on the host", read("/data/secret"), "ENOENT"),
	try("srv", "reads a world-readable file beside the projects", read("/srv/secret"), "ENOENT"),
	try("backups", "reads backups", read("/var/backups/secret"), "ENOENT"),
	try("logs", "lists the logs of the host", read("/var/log"), "ENOENT"),
	try("journal", "lists the journal of the host", read("/run/log/journal"), "ENOENT").compare(depends),
	try("host-tmp", "reads a world-readable file in the host's /tmp", read("/tmp/secret"), "ENOENT"),
	try("host-var-tmp", "reads a world-readable file in the host's /var/tmp", read("/var/tmp/secret"), "ENOENT"),
	try("run", "reads a world-readable file in /run", read("/run/secret"), "ENOENT"),
	try("spool", "lists the cron tables of users", read("/var/spool/cron"), "ENOENT").compare(depends),
	try("packages", "lists the package database", read("/var/lib/dpkg"), "ENOENT").compare(depends),
	try("docker-data", "lists Docker's data", read("/var/lib/docker"), "ENOENT").compare(depends),
	try("boot", "lists kernel images", read("/boot"), "ENOENT"),

	// Writing to the system.
	try("write-usr", "creates a program in /usr/bin", create("/usr/bin/new"), "EROFS"),
	try("write-local", "creates a program in /usr/local/bin", create("/usr/local/bin/new"), "EROFS"),
	try("write-lib", "creates a library", create("/usr/lib/new.so"), "EROFS"),
	try("write-etc", "creates a file in /etc", create("/etc/new"), "EROFS"),
	try("write-root", "creates a file in /", create("/new"), "EROFS"),
	try("write-srv", "creates a file beside its project", create("/srv/new"), "EROFS"),
	try("write-states", "creates a file beside its HOME", create("$STATE/new"), "EROFS"),
	try("write-opt", "creates a file in /opt", create("/opt/new"), "EROFS"),
	try("write-var", "creates a file in /var", create("/var/new"), "EROFS"),
	try("write-passwd", "makes /etc/passwd writable", changed("/etc/passwd"), "EROFS"),
	try("write-sudoers", "gives itself sudo", create("/etc/sudoers.d/new"), "EROFS"),
	try("write-preload", "preloads a library into everybody's programs", create("/etc/ld.so.preload"), "EROFS"),
	try("write-profile", "adds to everybody's login shells", create("/etc/profile.d/new.sh"), "EROFS"),
	try("write-opencoded", "makes opencoded itself writable", changed("/usr/local/bin/opencoded"), "EROFS").compare(depends),
	try("write-opencode", "makes opencode itself writable", changed("/usr/local/bin/opencode"), "EROFS").compare(depends),
	try("write-bash", "makes the shell writable", changed("/bin/bash"), "EROFS"),
	try("write-unit", "adds a unit", create("/usr/lib/systemd/system/new.service"), "EROFS"),

	// Links, races and mounts.
	try("symlink", "reads a host secret through a symbolic link in the project", linked(os.Symlink, "/data/secret"), "ENOENT"),
	try("symlink-proc", "reads it through a symbolic link to /proc/1/root", linked(os.Symlink, "/proc/1/root/data/secret"), "ENOENT"),
	try("hard-link", "makes a hard link to a file of the system", linked(os.Link, "/etc/passwd"), "EXDEV"),
	try("hard-link-state", "makes a hard link from HOME into the project", linked(os.Link, "$INSTANCE_HOME/.profile"), "EXDEV"),
	try("race", "swaps a file for a link to a secret while it is read", raced("/data/secret"), "ENOENT"),
	try("bind", "mounts a directory over another", sys(unix.SYS_MOUNT, "/usr", "/srv/alpha", "none", unix.MS_BIND, 0), "EPERM").compare(inside),
	try("overlay", "mounts an overlay over a read-only directory", sys(unix.SYS_MOUNT, "overlay", "/mnt", "overlay", 0, "lowerdir=/none"), "EPERM"),
	try("remount", "mounts a read-only directory writable", sys(unix.SYS_MOUNT, "", "/none", "", unix.MS_REMOUNT|unix.MS_BIND, 0), "EPERM"),
	try("tmpfs", "mounts a tmpfs", sys(unix.SYS_MOUNT, "tmpfs", "/none", "tmpfs", 0, 0), "EPERM"),
	try("proc-mount", "mounts a fresh /proc, which would hide nothing", sys(unix.SYS_MOUNT, "proc", "/none", "proc", 0, 0), "EPERM"),
	try("umount", "unmounts what hides the units", sys(unix.SYS_UMOUNT2, "/none", unix.MNT_DETACH), "EPERM"),
	try("handle", "opens a file by its handle, past all directories", handled, "EPERM"),

	// Set-user-id, capabilities, owners and devices.
	try("setuid-program", "becomes root by a setuid program of the host", asRoot(setuidProgram, "-u"), "runs as the instance's user"),
	try("file-capabilities", "gains capabilities by a program of the host that has them", capable, "EPERM"),
	try("setuid-chmod", "makes a setuid file", scratch(false, func(n string) error { return unix.Chmod(n, 0o4755) }), "EPERM"),
	try("setgid-chmod", "makes a setgid directory", scratch(true, func(n string) error { return unix.Chmod(n, 0o2777) }), "EPERM"),
	try("setuid-create", "creates a file that is setuid from the start", scratch(false, func(n string) error {
		_, err := unix.Open(n+"-new", unix.O_CREAT|unix.O_WRONLY, 0o4755)
		os.Remove(n + "-new")
		return err
	}), "EPERM"),
	try("set-file-capability", "gives a file capabilities", scratch(false, func(n string) error {
		return unix.Setxattr(n, "security.capability", []byte{1, 0, 0, 2, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0)
	}), "EPERM"),
	try("chown-root", "gives a file to root", scratch(false, func(n string) error { return unix.Chown(n, 0, 0) }), "EPERM"),
	try("chown-beta", "gives a file to another instance", scratch(false, func(n string) error { return unix.Chown(n, number("BETA_UID")(), -1) }), "EPERM"),
	try("mknod-disk", "makes a device node of a disk", mknod(unix.S_IFBLK, 7, 0), "EPERM"),
	try("mknod-memory", "makes a device node of the memory", mknod(unix.S_IFCHR, 1, 1), "EPERM"),
	try("mknod-null", "makes a device node of /dev/null", mknod(unix.S_IFCHR, 1, 3), "EPERM"),
	try("disk", "opens a disk", lookAt("/dev/escape-disk"), "ENOENT"),
	try("memory", "opens the memory", lookAt("/dev/escape-memory"), "ENOENT"),
	try("dev-mem", "opens /dev/mem", read("/dev/mem"), "ENOENT").compare(depends),
	try("dev-kmsg", "reads the kernel log by /dev/kmsg", read("/dev/kmsg"), "ENOENT"),
	try("dev-fuse", "opens /dev/fuse", read("/dev/fuse"), "ENOENT").compare(depends),
	try("dev-kvm", "opens /dev/kvm", read("/dev/kvm"), "ENOENT").compare(depends),
	try("dev-tun", "opens /dev/net/tun", read("/dev/net/tun"), "ENOENT").compare(depends),
	try("dev-loop", "opens /dev/loop-control", read("/dev/loop-control"), "ENOENT").compare(depends),
	try("dev-create", "creates a file in /dev", create("/dev/new"), "EROFS"),
	try("terminal", "opens the terminal of somebody else", read("/dev/pts/0"), "EACCES").compare(depends),

	// What others obey or run.
	try("protected-hook", "adds a git hook, which would run outside", create(".git/hooks/post-checkout"), "EROFS"),
	try("protected-hooks-move", "moves the git hooks away", moved(".git/hooks", ".git/away"), "EBUSY"),
	try("protected-git-move", "moves .git away with the hooks in it", moved(".git", "git"), "EBUSY"),
	try("protected-envrc", "writes .envrc", write(".envrc"), "EROFS"),
	try("protected-envrc-replace", "puts another file in the place of .envrc", replaced(".envrc"), "EBUSY"),
	try("protected-envrc-remove", "removes .envrc", func() error { return unix.Unlink(".envrc") }, "EBUSY").compare(inside),
	try("protected-vscode", "adds a task to .vscode", create(".vscode/tasks.json"), "EROFS"),
	try("protected-idea", "adds a file to .idea", create(".idea/new.xml"), "EROFS"),
	try("protected-chmod", "makes .envrc writable", func() error { return unix.Chmod(".envrc", 0o777) }, "EROFS"),

	may("system", "reads a program of the system", read("/usr/bin/env"), "an agent needs compilers and tools; install nothing secret there"),
	may("passwd", "reads /etc/passwd", read("/etc/passwd"), "names of accounts are no secret, and many programs look there"),
	may("certificates", "lists the configuration in /etc that everybody may read", read("/etc"), "certificates, resolvers and time zones are there; secrets there have to be root's alone"),
	may("own-project", "writes into its project", create("new"), "that is the work"),
	may("own-home", "writes into its HOME", create("$INSTANCE_HOME/new"), "caches, settings of tools and sessions"),
	may("own-tmp", "writes into its own /tmp", create("/tmp/new"), "a /tmp that nobody else sees"),
	may("git-configuration", "writes .git/config", write(".git/config"), "git would not work as usual without; it can name programs, so look at it, or list it in sandbox.protect"),
	may("fifo", "makes a named pipe", scratch(true, func(n string) error { return unix.Mkfifo(n+"/pipe", 0o600) }), "no device, and an ordinary means of shell scripts"),
}

// mknod makes a device node in the project.
func mknod(kind uint32, major, minor uint32) call {
	return scratch(true, func(n string) error {
		return unix.Mknod(n+"/node", kind|0o600, int(unix.Mkdev(major, minor)))
	})
}

// handled opens its own directory by a handle.
func handled() error {
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/proc/self/ns/net", 0)
	if err != nil {
		handle = unix.NewFileHandle(1, make([]byte, 8))
	}
	fd, err := unix.OpenByHandleAt(unix.AT_FDCWD, handle, unix.O_RDONLY)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// procProbes: /proc shows the instance's own processes alone, and of the kernel what programs need.
var procProbes = []probe{
	try("proc-init", "looks at the host's first process", read("/proc/1/status"), "ENOENT"),
	try("proc-init-root", "enters the host's root by /proc/1/root", read("/proc/1/root/etc/shadow"), "ENOENT"),
	try("proc-init-cwd", "enters the host's root by /proc/1/cwd", read("/proc/1/cwd/etc/shadow"), "ENOENT"),
	try("proc-init-environ", "reads the environment of the first process", read("/proc/1/environ"), "ENOENT"),
	try("proc-init-namespace", "opens the mount namespace of the first process", lookAt("/proc/1/ns/mnt"), "ENOENT"),
	try("proc-beta", "looks at another instance's process", read("/proc/$BETA/status"), "ENOENT"),
	try("proc-beta-environ", "reads another instance's environment, with its secrets", read("/proc/$BETA/environ"), "ENOENT"),
	try("proc-beta-cmdline", "reads another instance's command line", read("/proc/$BETA/cmdline"), "ENOENT"),
	try("proc-beta-root", "enters another instance's root", read("/proc/$BETA/root/srv/beta/secret"), "ENOENT"),
	try("proc-beta-cwd", "enters another instance's working directory", read("/proc/$BETA/cwd/secret"), "ENOENT"),
	try("proc-beta-fd", "lists another instance's open files", read("/proc/$BETA/fd"), "ENOENT"),
	try("proc-beta-memory", "opens another instance's memory", read("/proc/$BETA/mem"), "ENOENT"),
	try("proc-beta-maps", "reads another instance's memory map", read("/proc/$BETA/maps"), "ENOENT"),
	try("proc-outside-root", "enters the root of a process of the same user outside", read("/proc/$OUTSIDE/root/data/secret"), "ENOENT"),
	try("proc-outside-environ", "reads the environment of a process of the same user outside", read("/proc/$OUTSIDE/environ"), "ENOENT"),
	try("proc-outside-memory", "opens the memory of a process of the same user outside", read("/proc/$OUTSIDE/mem"), "ENOENT"),
	try("proc-outside-fd", "lists the open files of a process of the same user outside", read("/proc/$OUTSIDE/fd"), "ENOENT"),
	try("proc-outside-namespace", "opens the mount namespace of a process of the same user outside", lookAt("/proc/$OUTSIDE/ns/mnt"), "ENOENT"),
	try("proc-server-root", "finds more in its own server's root than in its own", read("/proc/$ALPHA/root/data/secret"), "ENOENT").compare(inside),
	try("open-files", "finds an open file that leads out, in any process that it sees", descriptors, "finds none").compare(inside),
	try("proc-kmsg", "reads the kernel log by /proc/kmsg", read("/proc/kmsg"), "EACCES"),
	try("proc-kallsyms", "reads the addresses of the kernel", read("/proc/kallsyms"), "EACCES"),
	try("proc-oom", "keeps itself from being killed when memory is short", shell("echo -1000 > /proc/self/oom_score_adj"), "EACCES").compare(depends),
	try("proc-uid-map", "maps itself to root", shell("echo 0 0 1 > /proc/self/uid_map"), "EPERM").compare(depends),
	try("core-pattern", "has the kernel run a program of its own on a crash", changed("/proc/sys/kernel/core_pattern"), "EROFS").compare(depends),
	try("sysctl-kernel", "changes kernel.panic", changed("/proc/sys/kernel/panic"), "EROFS").compare(depends),
	try("sysctl-vm", "changes vm.overcommit_memory", changed("/proc/sys/vm/overcommit_memory"), "EROFS").compare(depends),
	try("sysctl-net", "turns on forwarding", changed("/proc/sys/net/ipv4/ip_forward"), "EROFS"),
	try("sysctl-namespaces", "raises the number of user namespaces", changed("/proc/sys/user/max_user_namespaces"), "EROFS").compare(depends),
	try("cgroup-create", "makes a control group", func() error { return unix.Mkdir("/sys/fs/cgroup/new", 0o755) }, "EROFS").compare(inside),
	try("cgroup-move", "moves itself into another control group", changed("/sys/fs/cgroup/cgroup.procs"), "EROFS"),
	try("cgroup-kill", "kills another instance by its control group", either("EROFS or, from systemd 257 on, ENOENT", changed("/sys/fs/cgroup/opencode.slice/opencode-beta.service/cgroup.kill"), unix.EROFS, unix.ENOENT), "EROFS or, from systemd 257 on, ENOENT"),

	may("proc-own-environ", "reads the environment of its own server, with its password", read("/proc/$ALPHA/environ"), "the same user; the password is of no use to it, since its own port cannot be reached"),
	may("proc-cpuinfo", "reads /proc/cpuinfo, /proc/meminfo and /proc/stat", shell("cat /proc/cpuinfo /proc/meminfo /proc/stat"), "nproc, free and top answer from them"),
	may("proc-mounts", "reads which file systems it sees", read("/proc/self/mountinfo"), "df needs it; the paths of its own mounts on the host are in it"),
	may("sys-net", "reads which network devices there are", read("/sys/class/net"), "programs list addresses; sending is what is restricted"),
}
