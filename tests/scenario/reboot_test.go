package scenario

import (
	"os"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/tier"
)

// TestReboot: what one machine applied, the next one boots with, off the same disk,
// while the inventory has become unreadable. It is no daemon that starts instances
// and their rules then.
func TestReboot(t *testing.T) {
	tier.Need(t, "scenario", tier.Machine())
	opts := machine.Options{Name: "reboot"}
	if !machine.Inside() {
		opts.Binds = binds(t)
		disk, err := os.MkdirTemp("/dev/shm", "opencoded-disk-") // memory: as fast as a machine without
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(disk) })
		opts.Disk = disk
	}
	if t.Run("applied", func(t *testing.T) { machine.Run(t, opts, applied) }) {
		t.Run("booted", func(t *testing.T) { machine.Run(t, opts, booted) })
	}
}

// The first thing that an instance runs says what came of a datagram to a place that
// its policy does not cover, and of a connection to another instance.
const firstProcess = `
version = 1
[instances.alpha]
directory = "/srv/alpha"
listen.port = 8701
[instances.alpha.hooks]
pre_init = '''
date +%s.%N >> ~/first
bash -c 'echo x > /dev/udp/198.51.100.2/9 && echo sent' >> ~/first 2>&1 || true
bash -c 'echo x > /dev/tcp/127.0.0.1/8702 && echo connected' 2>&1 | head -n 1 >> ~/first
'''
[instances.alpha.network_isolation]
enable = true
on_block = "reject"
outbound_allow_cidrs = ["192.0.2.0/24"]
[instances.beta]
directory = "/srv/beta"
listen.port = 8702
`

// A wire is there before the instances are, and counts what leaves.
const wireUnit = `[Unit]
Before=opencode-alpha-setup.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip link add host0 type veth peer name host1
ExecStart=sysctl -q net.ipv6.conf.host0.disable_ipv6=1
ExecStart=ip addr add 198.51.100.1/24 dev host0
ExecStart=ip link set host1 up
ExecStart=ip link set host0 up
ExecStart=ip neigh add 198.51.100.2 lladdr 02:00:00:00:00:01 dev host0
[Install]
RequiredBy=opencode-alpha-setup.service
`

func applied(t *testing.T) {
	operator.Write(t, "/etc/systemd/system/wire.service", wireUnit, 0o644)
	operator.Must(t, "systemctl", "enable", "--now", "wire")
	operator.Apply(t, firstProcess)
	operator.Write(t, operator.Inventory, firstProcess+"[instances.beta\n", 0o644)
}

func booted(t *testing.T) {
	for _, name := range []string{"alpha", "beta"} {
		operator.Eventually(t, name+" runs", func() bool {
			return operator.Command(t, "systemctl", "is-active", "opencode-"+name).Code == 0
		})
	}
	starts := strings.Split(strings.TrimSpace(operator.Read(t, "/var/lib/opencode/instance-state/alpha/first")), "\n")
	if len(starts) != 6 {
		t.Fatalf("what the first processes of two boots said: %q", starts)
	}
	for n, what := range map[int]string{4: "Operation not permitted", 5: "No route to host"} {
		operator.Contains(t, "first process of the second boot", starts[n], what)
	}
	sent := operator.Sh(t, "ip -s -4 -j link show host0")
	operator.Contains(t, "packets that left", sent, `"tx":{"bytes":0,"packets":0`)

	// Whatever asks the inventory says where it is broken, and touches nothing.
	pid := operator.PID(t, "alpha")
	r := operator.Command(t, "opencoded", "apply")
	operator.Same(t, "exit code of apply", r.Code, 1)
	operator.Contains(t, "apply", r.Stderr, "instances.toml:19:16")
	operator.Same(t, "exit code of net show", operator.Command(t, "opencoded", "net", "show").Code, 0)

	// A start by hand after a flush, still without a daemon.
	operator.Must(t, "nft", "flush", "ruleset")
	operator.Must(t, "systemctl", "restart", "opencode-beta")
	operator.Must(t, "nft", "list", "table", "inet", "opencoded-guard")

	// The daemon needs the inventory as little as the units do.
	operator.Must(t, "nft", "flush", "ruleset")
	operator.Must(t, "systemctl", "start", "opencoded")
	operator.Same(t, "exit code of net show, with the daemon", operator.Command(t, "opencoded", "net", "show").Code, 0)
	operator.Must(t, "nft", "list", "table", "inet", "opencode-alpha")
	operator.Same(t, "pid of alpha", operator.PID(t, "alpha"), pid)
}
