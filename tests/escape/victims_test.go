package escape

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/opencoded/opencoded/tests/agent"
	"github.com/opencoded/opencoded/tests/operator"
)

// alpha is what the probes run in; beta, and the host around both, are what they are after.
const inventory = `
version = 1
[instances.alpha]
directory = "/srv/alpha"
listen.port = 8701
network_isolation = { enable = true, outbound_allow_cidrs = ["192.0.2.0/24", "2001:db8:1::/64"] }
[instances.beta]
directory = "/srv/beta"
listen.port = 8702
environment_file = "/etc/opencode/beta.env"
credentials = { token = "/etc/opencode/beta.token" }
`

// Programs of the host with rights that a process gains by starting them, if it may.
const (
	programs       = "/usr/local/lib/opencoded-escape"
	setuidProgram  = programs + "/id"
	capableProgram = programs + "/capable"
)

// What others keep in the kernel.
const (
	key       = 0x6f70636f // of System V shared memory, semaphores and messages
	queueName = "planted"
	memory    = "/dev/shm/planted"
)

// listening are the sockets of the host. Any could be connected to by everybody, if it were seen.
var listening = []string{
	"/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock", "/run/libvirt/libvirt-sock",
	"/run/user/0/bus", "/run/postgresql/.s.PGSQL.5432", "/run/mysqld/mysqld.sock", "/run/snapd.socket",
	"/tmp/.X11-unix/X7", "/tmp/ssh-planted/agent.1", "/tmp/tmux-0/default", "/dev/shm/socket", "@/tmp/.X11-unix/X7", "@planted", "127.0.0.1:9100", "[::1]:9100",
}

type victims struct {
	passwords map[string]string
	variables []string // of the environment of the probes
}

// prepare makes two instances and, around them, what a host has that they may not reach.
func prepare(t *testing.T) *victims {
	operator.Sh(t, `
mkdir -p /home/alice/.ssh /srv/alpha /data /tmp/ssh-planted /tmp/tmux-0 /tmp/.X11-unix
mkdir -p /run/containerd /run/podman /run/libvirt /run/user/0 /run/postgresql /run/mysqld /var/backups /etc/sudoers.d
for f in /home/alice/.ssh/id_ed25519 /data/secret /var/backups/secret /srv/secret /tmp/secret /var/tmp/secret /run/secret; do
	echo planted >$f
	chmod 644 $f
done
git init -q /srv/alpha
cd /srv/alpha
echo original | tee file >.envrc
mkdir -p .vscode .idea
echo '{ "username": "planted" }' >opencode.json
git -c user.name=x -c user.email=x -c safe.directory=/srv/alpha add -A
git -c user.name=x -c user.email=x -c safe.directory=/srv/alpha commit -qm first
chmod -R a+rwX /srv/alpha
mknod /dev/escape-disk b 7 0
mknod /dev/escape-memory c 1 1`)
	operator.Write(t, "/etc/opencode/beta.env", "PLANTED=planted\n", 0o600)
	operator.Write(t, "/etc/opencode/beta.token", "planted\n", 0o600)
	grantPrograms(t)
	outside(t)
	operator.Apply(t, inventory)

	v := &victims{passwords: map[string]string{}}
	for _, name := range []string{"alpha", "beta"} {
		for e := range strings.SplitSeq(operator.Read(t, "/proc/"+operator.PID(t, name)+"/environ"), "\x00") {
			if p, ok := strings.CutPrefix(e, "OPENCODE_SERVER_PASSWORD="); ok {
				v.passwords[name] = p
			}
		}
	}
	beta, err := agent.Enter(t.Context(), operator.Status(t, "beta").Address, v.passwords["beta"])
	if err != nil {
		t.Fatal(err)
	}
	planted, code, err := beta.Run(t.Context(), "umask 0; echo planted | tee secret ~/secret >/tmp/of-beta; "+roleVariable+"=plant "+os.Args[0])
	operator.Must(t, "env", roleVariable+"=plant", os.Args[0]) // the host has such things too
	if err != nil || code != 0 || !strings.HasPrefix(planted, "KEY=") {
		t.Fatalf("beta did not plant its own: exit %d, %v: %s", code, err, planted)
	}
	// A process of alpha's own user, which belongs to somebody else all the same.
	operator.Sh(t, "systemd-run -q --unit=outside -p User=opencode-alpha sleep 3600; systemd-run -q --unit=terminal script -qc 'sleep 3600' /dev/null")
	v.variables = append(strings.Fields(planted),
		"BETA="+operator.PID(t, "beta"), "OUTSIDE="+operator.Must(t, "systemctl", "show", "-P", "MainPID", "outside"),
		"ALPHA="+operator.PID(t, "alpha"), "BETA_UID="+operator.Must(t, "id", "-u", "opencode-beta"),
		"ALPHA_PASSWORD="+v.passwords["alpha"], "BETA_PASSWORD="+v.passwords["beta"],
		"STATE=/var/lib/opencode/instance-state", "WITHIN=/srv/alpha", "INSTANCE_HOME=/var/lib/opencode/instance-state/alpha")
	return v
}

// grantPrograms makes a setuid program, and one with capabilities.
func grantPrograms(t *testing.T) {
	operator.Sh(t, "mkdir -p "+programs+"; cp /usr/bin/id "+setuidProgram+"; chmod 4755 "+setuidProgram+"; cp "+os.Args[0]+" "+capableProgram)
	// struct vfs_cap_data, revision 2, CAP_NET_RAW permitted and effective.
	caps := []byte{1, 0, 0, 2, 0, 1 << (unix.CAP_NET_RAW - 8), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Setxattr(capableProgram, "security.capability", caps, 0); err != nil {
		t.Fatal(err)
	}
}

// outside makes a network beyond the host, of addresses that are reserved for documentation, and starts servers in it
// and on the host. The host has the address .1 of each network, the world .2.
func outside(t *testing.T) {
	operator.Sh(t, `
ip netns add world
ip link add host0 type veth peer name world0 netns world
for n in 192.0.2 198.51.100 169.254.169; do ip addr add $n.1/24 dev host0; done
for a in 192.0.2.2 198.51.100.2 169.254.169.254; do ip -n world addr add $a/24 dev world0; done
for n in 1 2; do
	ip addr add 2001:db8:$n::1/64 dev host0 nodad
	ip -n world addr add 2001:db8:$n::2/64 dev world0 nodad
done
ip link set host0 up
ip route add 224.0.0.0/4 dev host0
ip -n world link set lo up
ip -n world link set world0 up`)
	for _, command := range [][]string{
		append([]string{os.Args[0]}, listening...),
		{"ip", "netns", "exec", "world", os.Args[0], "[::]:9000", "[::]:53", "[::]:80"},
	} {
		c := exec.Command(command[0], command[1:]...)
		c.Env, c.Stderr = append(os.Environ(), roleVariable+"=serve"), os.Stderr
		lifeline, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { lifeline.Close(); c.Wait() })
		if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
			t.Fatalf("%v did not get ready: %v", command, err)
		}
	}
}

// plant leaves shared memory, semaphores, queues and a key that everybody could use who sees them. It prints what
// the probes need to know.
func plant([]string) error {
	for _, make := range []call{
		sys(unix.SYS_SHMGET, key, 4096, unix.IPC_CREAT|0o666),
		sys(unix.SYS_SEMGET, key, 1, unix.IPC_CREAT|0o666),
		sys(unix.SYS_MSGGET, key, unix.IPC_CREAT|0o666),
		sys(unix.SYS_MQ_OPEN, queueName, unix.O_CREAT|unix.O_RDWR, 0o666, 0),
		func() error { return os.WriteFile(memory, []byte("planted"), 0o666) },
	} {
		if err := make(); err != nil {
			return err
		}
	}
	description, _ := unix.BytePtrFromString("user")
	name, _ := unix.BytePtrFromString("planted")
	payload := []byte("planted")
	const userKeyring = -4
	spec := userKeyring
	id, _, errno := unix.Syscall6(unix.SYS_ADD_KEY, uintptr(unsafe.Pointer(description)), uintptr(unsafe.Pointer(name)),
		uintptr(unsafe.Pointer(&payload[0])), uintptr(len(payload)), uintptr(spec), 0)
	if errno != 0 {
		return errno
	}
	fmt.Println("KEY=" + strconv.Itoa(int(id)))
	return nil
}

// environment is what a shell sets before it starts probes.
func (v *victims) environment() string { return strings.Join(v.variables, " ") }

// control runs the probes that are compared as root, outside of any instance.
func (v *victims) control(t *testing.T) map[string]string {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Dir = "/srv/alpha"
	cmd.Env = append(append(os.Environ(), v.variables...), roleVariable+"=compare", "HOME=/root")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the probes did not run as root: %v", err)
	}
	return parse(string(out))
}

// unharmed: after everything that was tried, beta runs as before and nothing of the host's has changed.
func (v *victims) unharmed(t *testing.T) {
	operator.Contains(t, "variables", v.environment(), "BETA="+operator.PID(t, "beta")+" ")
	var health struct{ Healthy bool }
	beta, err := agent.Enter(t.Context(), operator.Status(t, "beta").Address, v.passwords["beta"])
	if err == nil {
		err = beta.Call(t.Context(), http.MethodGet, "/global/health", "", &health)
	}
	if err != nil || !health.Healthy {
		t.Errorf("beta: %v, healthy %t", err, health.Healthy)
	}
	for _, p := range []string{"/srv/beta/secret", filepath.Join("/var/lib/opencode/instance-state/beta", "secret"), "/data/secret"} {
		operator.Same(t, p, strings.TrimSpace(operator.Read(t, p)), "planted")
	}
	operator.NothingToDo(t)
}
