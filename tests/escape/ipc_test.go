package escape

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// ipcProbes: whoever may write to a socket of a powerful daemon has its power. Such sockets are not there; those
// without a path are refused by Landlock.
var ipcProbes = []probe{
	try("docker", "connects to Docker", connected("/run/docker.sock"), "ENOENT"),
	try("docker-var", "connects to Docker by /var/run", connected("/var/run/docker.sock"), "ENOENT"),
	try("containerd", "connects to containerd", connected("/run/containerd/containerd.sock"), "ENOENT"),
	try("podman", "connects to Podman", connected("/run/podman/podman.sock"), "ENOENT"),
	try("libvirt", "connects to libvirt", connected("/run/libvirt/libvirt-sock"), "ENOENT"),
	try("snapd", "connects to snapd", connected("/run/snapd.socket"), "ENOENT"),
	try("postgres", "connects to a database that it was not given", connected("/run/postgresql/.s.PGSQL.5432"), "ENOENT"),
	try("mysql", "connects to MySQL", connected("/run/mysqld/mysqld.sock"), "ENOENT"),
	try("system-bus", "connects to the system's D-Bus", connected("/run/dbus/system_bus_socket"), "ENOENT"),
	try("session-bus", "connects to a session's D-Bus", connected("/run/user/0/bus"), "ENOENT"),
	try("systemd-private", "connects to systemd itself", connected("/run/systemd/private"), "ENOENT"),
	try("systemd-notify", "says to systemd that a service is ready", sent("/run/systemd/notify"), "ENOENT"),
	try("journal-socket", "writes into the journal under another name", sent("/run/systemd/journal/socket"), "ENOENT"),
	try("journal-stdout", "opens a stream to the journal", connected("/run/systemd/journal/stdout"), "ENOENT"),
	try("dev-log", "writes into the system log", sent("/dev/log"), "ENOENT"),
	try("systemctl", "asks systemd to stop another instance", shell("systemctl stop opencode-none.service"), "EHOSTDOWN"),
	try("systemd-run", "has systemd run a program", shell("systemd-run --user true || systemd-run true"), "EHOSTDOWN"),
	try("x11", "connects to an X server", connected("/tmp/.X11-unix/X7"), "ENOENT"),
	try("ssh-agent", "connects to an SSH agent", connected("/tmp/ssh-planted/agent.1"), "ENOENT"),
	try("tmux", "connects to a terminal multiplexer", connected("/tmp/tmux-0/default"), "ENOENT"),
	try("x11-abstract", "connects to an X server by an abstract socket", connected("@/tmp/.X11-unix/X7"), "EPERM").with("landlock"),
	try("abstract", "connects to another abstract socket", connected("@planted"), "EPERM").with("landlock"),
	try("shm-file", "reads shared memory of another instance or of the host (/dev/shm)", read(memory), "ENOENT"),
	try("shm-write", "writes to shared memory of another instance or of the host", write(memory), "ENOENT"),
	try("shm-socket", "connects to a socket in the host's /dev/shm", connected("/dev/shm/socket"), "ENOENT"),
	try("sysv-memory", "finds System V shared memory of another instance or of the host", sys(unix.SYS_SHMGET, key, 0, 0), "ENOENT"),
	try("sysv-memory-list", "lists all System V shared memory", answered("finds none", "ipcs -m | grep 0x6f70636f && exit; echo finds none; exit 1"), "finds none").with("command ipcs"),
	try("sysv-semaphore", "finds semaphores of another instance or of the host", sys(unix.SYS_SEMGET, key, 0, 0), "ENOENT"),
	try("sysv-queue", "finds a System V message queue of another instance or of the host", sys(unix.SYS_MSGGET, key, 0), "ENOENT"),
	try("posix-queue", "opens a POSIX message queue of another instance or of the host", sys(unix.SYS_MQ_OPEN, queueName, unix.O_RDONLY, 0, 0), "ENOENT"),

	may("own-socket", "listens on a Unix socket in its project, and connects", ownSocket("socket"), "servers of the project under test do"),
	may("own-abstract", "listens on an abstract socket, and connects", ownSocket("@of-alpha"), "within an instance it is a socket like any"),
	may("own-memory", "makes shared memory", create("/dev/shm/new"), "browsers, databases and Python's multiprocessing use it"),
	may("own-sysv", "makes System V shared memory", sys(unix.SYS_SHMGET, 0, 4096, unix.IPC_CREAT|0o600), "PostgreSQL under test uses it"),
	may("own-key", "makes a key in its own keyring", sys(unix.SYS_ADD_KEY, "user", "own", []byte("x"), 1, unix.KEY_SPEC_PROCESS_KEYRING), "no other service sees it"),
}

func ownSocket(address string) call {
	return func() error {
		l, err := net.Listen("unix", address)
		if err != nil {
			return err
		}
		defer l.Close()
		defer os.Remove(address)
		return connected(address)()
	}
}
