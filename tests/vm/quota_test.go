package vm

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/tier"
	"github.com/opencoded/opencoded/tests/vm/guest"
)

// Few kernels of containers have project quotas; Debian's has. The state directories lie in a file system of their own.
const stateDisk = "/var/lib/state.img"

const stateMax = `
version = 1
[host]
state_root = "/state/instances"
[defaults]
start_timeout = "5m" # emulated
[instances.small]
directory = "/srv/small"
listen.port = 8701
resources.state_max = "32M"
[instances.other]
directory = "/srv/other"
listen.port = 8702
`

// TestStateMax is one boot with the real opencode.
func TestStateMax(t *testing.T) {
	var g *guest.Guest
	if !machine.Inside() {
		tier.Need(t, "vm", guest.Check())
		opencode, err := tier.Opencode()
		tier.Need(t, "vm", err)
		disk := guest.NewDisk(t, operator.Opencoded(t), operator.Unit(t), machine.Bind{Source: opencode, Target: "/usr/local/bin/opencode"},
			machine.Bind{Source: makeStateDisk(t), Target: stateDisk})
		g = disk.Boot(t)
	}
	if inGuest(t, g, "limited", stateLimited) {
		inGuest(t, g, "held", stateHeld)
		inGuest(t, g, "drift", stateDrift)
		inGuest(t, g, "removed", stateFreed)
	}
}

func makeStateDisk(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "state.img")
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-O", "quota,project", "-E", "quotatype=prjquota", path, "160M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
	return path
}

// stateLimited: without the mount option the limit is refused, with it the servers come up.
func stateLimited(t *testing.T) {
	operator.Sh(t, "mkdir -p /state; mount -o loop "+stateDisk+" /state")
	operator.Write(t, operator.Inventory, stateMax, 0o600)
	r := operator.Command(t, "opencoded", "apply")
	operator.Same(t, "apply without prjquota exits with", r.Code, 1)
	operator.Contains(t, "apply", r.Stderr, "/state is on /state (ext4), mounted without project quotas (with /state unmounted, run tune2fs -O project,quota /dev/loop")
	operator.Sh(t, "umount /state; mount -o loop,prjquota "+stateDisk+" /state")
	r = operator.Command(t, "opencoded", "plan")
	operator.Contains(t, "plan", r.Stdout, "create   quota      /state/instances/small  (32 MiB, 2048 files)")
	operator.Apply(t, stateMax)
	operator.NothingToDo(t)
	r = operator.Command(t, "opencoded", "status")
	operator.Contains(t, "status", r.Stdout, " of 32 MiB ")
	t.Log(r.Stdout)
	t.Log(operator.Sh(t, "du -sh /state/instances/*"))
}

// ioctl changes the attributes of a file in perl, which every Debian has: struct fsxattr of linux/fs.h.
const ioctl = `perl -e 'open F, "<", $ARGV[0] or die; my $a = "\0" x 28; ioctl(F, 0x801c581f, $a) or die "get: $!";
	my @a = unpack("L5a8", $a); $a[0] &= ~0x200 if $ARGV[1] eq "inherit"; $a[3] = 0 if $ARGV[1] eq "project";
	ioctl(F, 0x401c5820, my $b = pack("L5a8", @a)) or print "$!"' `

// fill goes beyond the limit, in space and then in files, while opencode is asked nothing that it would have to write
// down: its database lies in the state directory. What it finds it writes into the project, which is not limited.
const fill = `#!/bin/sh
export LC_ALL=C
head -c 40M /dev/zero >big && mv big big.ok
until [ -e go ]; do sleep 0.1; done
dd if=/dev/zero of=$HOME/big bs=1M count=40 2>found
mv found full
until [ -e enough ]; do sleep 0.1; done
rm $HOME/big
mkdir $HOME/many
perl -e 'while ($n++ < 4000) { open F, ">", "$ENV{HOME}/many/$n" or do { print $!; last } }' >found
rm -r $HOME/many
mv found crowded
`

// stateHeld: inside, writing ends at the limit, for this instance alone; nobody inside gets out of it.
func stateHeld(t *testing.T) {
	small, other := enter(t, "small"), enter(t, "other")
	operator.Write(t, "/srv/small/fill", fill, 0o755)
	small.must(t, "setsid ./fill >/dev/null 2>&1 </dev/null &")
	operator.Write(t, "/srv/small/go", "", 0o644)
	eventually(t, "the state directory is full", func() bool { return exists("/srv/small/full") })
	operator.Contains(t, "what a write beyond the limit said", operator.Read(t, "/srv/small/full"), "Disk quota exceeded")
	if !exists("/srv/small/big.ok") {
		t.Error("the project is limited too")
	}

	// Full, the server still answers, the other one writes on, and status says why nothing can be written.
	var health struct{ Healthy bool }
	if err := small.Call(t.Context(), http.MethodGet, "/global/health", "", &health); err != nil || !health.Healthy {
		t.Errorf("at its limit small does not answer: %v, healthy %t", err, health.Healthy)
	}
	other.must(t, "head -c 40M /dev/zero >~/big; rm ~/big")
	operator.Contains(t, "status", operator.Command(t, "opencoded", "status").Stdout,
		"small: has reached resources.state_max (32 MiB): nothing more can be written to /state/instances/small")
	operator.Contains(t, "status --json", operator.Must(t, "opencoded", "status", "--json"), `"state_max_bytes": 33554432`)

	operator.Write(t, "/srv/small/enough", "", 0o644)
	eventually(t, "there are too many files", func() bool { return exists("/srv/small/crowded") })
	operator.Same(t, "what a file too many said", operator.Read(t, "/srv/small/crowded"), "Disk quota exceeded")
	for _, what := range []string{"project", "inherit"} {
		operator.Same(t, "leaving by way of "+what, small.must(t, "mkdir -p ~/dir; echo text >~/file; "+ioctl+"~/dir "+what), "Invalid argument")
	}
	operator.Same(t, "leaving with a file", small.must(t, ioctl+"~/file project"), "Invalid argument")
}

// stateDrift: what was lost is seen and put back, and another limit comes, without a restart.
func stateDrift(t *testing.T) {
	pid := operator.PID(t, "small")
	operator.Sh(t, ioctl+"/state/instances/small project; "+ioctl+"/state/instances/small/file project")
	operator.Contains(t, "status", strings.Join(operator.Status(t, "small").Drift, "\n"), "create quota /state/instances/small")
	operator.Apply(t, stateMax)
	operator.NothingToDo(t)
	operator.Sh(t, ioctl+"/state/instances/small inherit")
	r := operator.Command(t, "opencoded", "plan")
	operator.Contains(t, "plan", r.Stdout, "change   quota      /state/instances/small  (32 MiB, 2048 files, was without effect on new files)")
	operator.Apply(t, strings.Replace(stateMax, "32M", "48M", 1))
	operator.NothingToDo(t)
	small := enter(t, "small")
	small.must(t, "head -c 40M /dev/zero >~/big; rm ~/big")
	operator.Same(t, "pid of small", operator.PID(t, "small"), pid)
}

// stateFreed: the limit goes with the key, and with the instance.
func stateFreed(t *testing.T) {
	free := strings.Replace(stateMax, `"32M"`, `"infinity"`, 1)
	operator.Write(t, operator.Inventory, free, 0o600)
	operator.Contains(t, "plan", operator.Command(t, "opencoded", "plan").Stdout, "remove   quota      /state/instances/small")
	operator.Apply(t, free)
	operator.NothingToDo(t)
	enter(t, "small").must(t, "head -c 40M /dev/zero >~/big; rm ~/big")

	operator.Apply(t, stateMax)
	without := stateMax[:strings.Index(stateMax, "[instances.small]")] + stateMax[strings.Index(stateMax, "[instances.other]"):]
	operator.Write(t, operator.Inventory, without, 0o600)
	operator.Contains(t, "plan", operator.Command(t, "opencoded", "plan").Stdout, "remove   quota      /state/instances/small")
	operator.Apply(t, without)
	operator.NothingToDo(t)
	operator.Sh(t, "head -c 40M /dev/zero | runuser -u opencode-small -- sh -c 'cat >/state/instances/small/big'; rm /state/instances/small/big")

	// Purged with a limit, nothing of it is left either.
	operator.Apply(t, stateMax)
	uid := operator.Must(t, "id", "-u", "opencode-small")
	operator.Sh(t, "systemctl disable --now opencode-small; rm /etc/systemd/system/opencode-small*.service; systemctl daemon-reload")
	operator.Write(t, operator.Inventory, without, 0o600)
	operator.Must(t, "opencoded", "purge", "--yes", "small")
	if _, err := os.Lstat("/state/instances/small"); err == nil {
		t.Error("the state directory is still there")
	}
	operator.Sh(t, "useradd -u "+uid+" again; install -d -o again /state/again; head -c 40M /dev/zero | runuser -u again -- sh -c 'cat >/state/again/big'")
}
