package vm

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/netpolicy"
	"github.com/opencoded/opencoded/tests/operator"
)

// The first process of alpha sends a datagram to where its policy does not lead.
const booting = `
version = 1
[defaults]
opencode = "` + standinInside + `"
[instances.alpha]
directory = "/srv/alpha"
listen.port = 8701
hooks.pre_init = "bash -c 'echo x > /dev/udp/198.51.100.2/9' || true"
[instances.alpha.network_isolation]
enable = true
outbound_allow_cidrs = ["192.0.2.0/24"]
[instances.beta]
directory = "/srv/beta"
listen.port = 8702
`

// A way out is there before the instances are, and leads nowhere.
const wayOut = `[Unit]
Before=opencode-alpha-setup.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip link add out type dummy
ExecStart=ip addr add 198.51.100.1/24 dev out
ExecStart=ip link set out up
[Install]
WantedBy=multi-user.target
`

func applied(t *testing.T) {
	operator.Write(t, "/etc/systemd/system/out.service", wayOut, 0o644)
	operator.Must(t, "systemctl", "enable", "--now", "out", "opencoded")
	operator.Apply(t, booting)
	operator.NothingToDo(t)
}

// rebooted: the instances are back by themselves, each started once, and behind their rules from their first process on.
func rebooted(t *testing.T) {
	operator.Same(t, "systemd", operator.Must(t, "systemctl", "is-system-running"), "running")
	for _, name := range []string{"alpha", "beta"} {
		operator.Same(t, "state of "+name, operator.Status(t, name).State, "healthy")
		unit := "opencode-" + name
		operator.Same(t, "restarts of "+name, operator.Must(t, "systemctl", "show", "-P", "NRestarts", unit), "0")
		said := operator.Must(t, "journalctl", "-b", "-o", "cat", "--no-pager", "_PID=1", "+", "UNIT="+unit+".service")
		operator.Same(t, "starts of "+name, strings.Count(said, "Started "+unit+".service"), 1)
		for _, u := range []string{unit + "-setup", unit} {
			if loaded, first := rulesLoaded(t, u), mainStarted(t, u); loaded == 0 || loaded > first {
				t.Errorf("%s: its rules were there %d µs after the boot, its first process %d µs after it", u, loaded, first)
			}
		}
	}
	blocked := operator.Must(t, "journalctl", "-k", "-b", "-o", "cat", "--no-pager", "--grep", netpolicy.LogPrefix("alpha"))
	operator.Contains(t, "kernel's log", blocked, "DST=198.51.100.2")
	operator.NothingToDo(t)
}

// rulesLoaded is when the last command that a unit runs before its program had ended, in microseconds since the boot:
// `opencoded net ensure`, which ends well only if the kernel holds the rules.
func rulesLoaded(t *testing.T, unit string) int64 {
	t.Helper()
	path := "/org/freedesktop/systemd1/unit/" + strings.ReplaceAll(unit, "-", "_2d") + "_2eservice"
	text := operator.Must(t, "busctl", "--json=short", "get-property", "org.freedesktop.systemd1", path, "org.freedesktop.systemd1.Service", "ExecStartPre")
	// path, arguments, whether failure is ignored, four times of start and end, process id, how it ended (org.freedesktop.systemd1(5))
	var property struct{ Data [][]any }
	if err := json.Unmarshal([]byte(text), &property); err != nil || len(property.Data) == 0 {
		t.Fatalf("commands before %s: %v: %s", unit, err, text)
	}
	last := property.Data[len(property.Data)-1]
	operator.Contains(t, "command before "+unit, fmt.Sprint(last[1]), "net ensure")
	return int64(last[6].(float64))
}

// mainStarted is when a unit's program was started, in microseconds since the boot.
func mainStarted(t *testing.T, unit string) (us int64) {
	t.Helper()
	text := operator.Must(t, "systemctl", "show", "-P", "ExecMainStartTimestampMonotonic", unit)
	if _, err := fmt.Sscan(text, &us); err != nil {
		t.Fatalf("start of %s: %v", unit, err)
	}
	return us
}
