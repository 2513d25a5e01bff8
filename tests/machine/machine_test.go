package machine_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/tier"
)

// What a machine is like, asked of one.
func TestMachine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	m := boot(t, machine.Options{Name: "about", Binds: []machine.Bind{
		{Source: file, Target: "/srv/deep/file"},
		{Source: filepath.Dir(file), Target: "/srv/dir"},
	}})
	for name, test := range map[string]func(*testing.T, *machine.Machine){
		"running": func(t *testing.T, m *machine.Machine) {
			if got := output(t, m, "systemctl", "is-system-running"); got != "running" {
				t.Errorf("the system is %s\n%s", got, m.Diagnose())
			}
			if got := output(t, m, "cat", "/proc/1/comm"); got != "systemd" {
				t.Errorf("process 1 is %s", got)
			}
			if got := output(t, m, "hostname"); got != "about" {
				t.Errorf("the host name is %s", got)
			}
		},
		"D-Bus":         dbusAnswers,
		"journald":      journaldAnswers,
		"nftables":      nftablesWorks,
		"sandboxing":    sandboxingWorks,
		"commands":      commandsWork,
		"binds":         bindsAreReadOnly,
		"writing files": filesAreWrittenInside,
		"kernel":        kernelIsNotReached,
		"kernel log":    kernelLogBeginsWithIt,
	} {
		t.Run(name, func(t *testing.T) { test(t, m) })
	}
}

func dbusAnswers(t *testing.T, m *machine.Machine) {
	got := output(t, m, "busctl", "get-property", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
		"org.freedesktop.systemd1.Manager", "SystemState")
	if got != `s "running"` {
		t.Errorf("SystemState is %s", got)
	}
}

func journaldAnswers(t *testing.T, m *machine.Machine) {
	output(t, m, "systemd-run", "--wait", "--unit=speaker", "echo", "a word")
	await(t, "the word in the journal", func() bool {
		return output(t, m, "journalctl", "--unit=speaker", "--output=cat", "--grep=^a word$", "--quiet") == "a word"
	})
}

// Rules load, match by user and write to the kernel log, which the journal has.
func nftablesWorks(t *testing.T, m *machine.Machine) {
	tier.Need(t, "machine", tier.Nftables())
	cmd := m.Command(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(`table inet probe {
		chain output {
			type filter hook output priority filter
			meta skuid 0 udp dport 9 log prefix "machine-test-blocked: " counter drop
		}
	}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, _ = m.Output(t.Context(), "bash", "-c", "echo > /dev/udp/127.0.0.1/9") // EPERM: dropped
	if got := output(t, m, "nft", "list", "table", "inet", "probe"); !strings.Contains(got, "counter packets 1 ") {
		t.Errorf("the packet was not counted:\n%s", got)
	}
	if _, err := os.Stat("/proc/sys/net/netfilter/nf_log_all_netns"); err != nil {
		tier.Need(t, "machine", errors.New("not in the first network namespace: the kernel logs for that one only (run it on the host itself)"))
	}
	await(t, "the drop in the journal of the kernel", func() bool {
		out, _ := m.Output(t.Context(), "journalctl", "--dmesg", "--output=cat", "--grep=machine-test-blocked: ", "--quiet")
		return strings.Contains(out, "DPT=9")
	})
}

// Units get the sandbox they ask for, credentials and address filters included.
func sandboxingWorks(t *testing.T, m *machine.Machine) {
	if err := m.WriteFile("/root/secret", []byte("sesame"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(properties string, command ...string) string {
		args := []string{"--wait", "--pipe", "--quiet"}
		for _, p := range strings.Fields(properties) {
			args = append(args, "--property="+p)
		}
		return output(t, m, "systemd-run", append(append(args, "--"), command...)...)
	}
	if got := run("LoadCredential=c:/root/secret DynamicUser=yes PrivateUsers=yes ProtectSystem=strict ProtectProc=invisible "+
		"PrivateDevices=yes ProtectKernelTunables=yes ProtectHome=tmpfs TemporaryFileSystem=/run:ro",
		"sh", "-c", `cat "$CREDENTIALS_DIRECTORY/c"; id -u | grep -qv '^0$' && touch /usr/x 2>/dev/null || printf " locked in"`); got != "sesame locked in" {
		t.Errorf("the sandboxed unit printed %q", got)
	}
	if got := run("IPAddressDeny=any IPAddressAllow=127.0.0.1", "bash", "-c",
		`echo 2>/dev/null > /dev/udp/127.0.0.1/9999 && echo -n allowed; echo 2>/dev/null > /dev/udp/127.0.0.2/9999 || echo " denied"`); got != "allowed denied" {
		t.Errorf("the address-filtered unit printed %q", got)
	}
}

func commandsWork(t *testing.T, m *machine.Machine) {
	var exit *exec.ExitError
	if _, err := m.Output(t.Context(), "sh", "-c", "echo why >&2; exit 7"); !errors.As(err, &exit) || exit.ExitCode() != 7 || !strings.Contains(err.Error(), "why") {
		t.Errorf("exit 7: %v", err)
	}
	if got := output(t, m, "sh", "-c", "echo $HOME $PWD"); got != "/root /" {
		t.Errorf("HOME and directory are %q", got)
	}
	// From the caller's cgroup, outside of the machine's tree, this would fail where cgroup v2 has nsdelegate.
	output(t, m, "systemd-run", "--scope", "--quiet", "true")

	ctx, cancel := context.WithCancel(t.Context())
	cmd := m.Command(ctx, "sh", "-c", "sleep 1234.5 & sleep 1234.5; true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sleepers := func() int {
		out, _ := m.Output(t.Context(), "pgrep", "-fc", "^sleep 1234.5")
		if strings.TrimSpace(out) == "2" {
			return 2
		}
		return len(strings.TrimSpace(strings.Trim(out, "0")))
	}
	await(t, "both sleepers", func() bool { return sleepers() == 2 })
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("a cancelled command succeeded")
	}
	await(t, "the end of both sleepers", func() bool { return sleepers() == 0 })
}

func bindsAreReadOnly(t *testing.T, m *machine.Machine) {
	for _, path := range []string{"/srv/deep/file", "/srv/dir/file"} {
		if got := output(t, m, "cat", path); got != "of the host" {
			t.Errorf("%s holds %q", path, got)
		}
		if _, err := m.Output(t.Context(), "sh", "-c", "echo x > "+path); err == nil || !strings.Contains(err.Error(), "Read-only") {
			t.Errorf("writing %s: %v", path, err)
		}
	}
}

func filesAreWrittenInside(t *testing.T, m *machine.Machine) {
	outside := t.TempDir()
	output(t, m, "ln", "-s", outside, "/srv/link")
	output(t, m, "mkdir", "-p", outside)
	if err := m.WriteFile("/srv/link/file", []byte("x"), 0o640); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("the host has %v, %v", left, err)
	}
	if got := output(t, m, "stat", "-c", "%a %s", outside+"/file"); got != "640 1" {
		t.Errorf("mode and size are %s", got)
	}
	if err := m.WriteFile("/proc/nothing/here", nil, 0o644); err == nil {
		t.Error("writing below /proc succeeded")
	}
}

// What is not namespaced cannot be set from inside; the machine's own network can.
func kernelIsNotReached(t *testing.T, m *machine.Machine) {
	for _, path := range []string{"/proc/sys/kernel/panic", "/proc/sys/vm/swappiness", "/sys/kernel/mm/transparent_hugepage/enabled"} {
		if _, err := m.Output(t.Context(), "sh", "-c", "cat "+path+" > /tmp/was && cat /tmp/was > "+path); err == nil {
			t.Errorf("%s could be written", path)
		}
	}
	output(t, m, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
}

// Lines of earlier machines would answer for this one's.
func kernelLogBeginsWithIt(t *testing.T, m *machine.Machine) {
	line := "said before the second machine of " + unique("test")
	if err := os.WriteFile("/dev/kmsg", []byte("<6>machine-test: "+line+"\n"), 0); err != nil {
		t.Fatal(err)
	}
	logged := func(m *machine.Machine) bool {
		out, _ := m.Output(t.Context(), "journalctl", "--output=cat", "--grep=^"+line, "--quiet")
		return strings.Contains(out, line)
	}
	await(t, "a line in the journal of the machine that runs", func() bool { return logged(m) })
	if logged(boot(t, machine.Options{Name: "later"})) {
		t.Error("the line is in the journal of a machine that was booted later")
	}
}

func TestTwoAtOnce(t *testing.T) {
	a, b := boot(t, machine.Options{Name: "one"}), boot(t, machine.Options{Name: "two"})
	if err := a.WriteFile("/etc/only-here", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Output(t.Context(), "stat", "/etc/only-here"); err == nil {
		t.Error("the second machine sees the first one's file")
	}
	if idA, idB := output(t, a, "cat", "/etc/machine-id"), output(t, b, "cat", "/etc/machine-id"); idA == idB || len(idA) != 32 {
		t.Errorf("the machines' ids are %q and %q", idA, idB)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got := output(t, b, "systemctl", "is-system-running"); got != "running" {
		t.Errorf("after the first one is closed the second one is %s", got)
	}
}

func TestClose(t *testing.T) {
	m := boot(t, machine.Options{Name: unique("closing")})
	output(t, m, "systemd-run", "--unit=daemon", "sleep", "infinity")
	output(t, m, "sh", "-c", "setsid sleep infinity > /dev/null 2>&1 &")
	namespace := namespaceOf(t, m.PID())
	if n := len(processesIn(namespace)); n < 5 {
		t.Fatalf("only %d processes seen in the machine", n)
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left := processesIn(namespace); len(left) > 0 {
		t.Errorf("processes %v survived", left)
	}
	if left := cgroupsOf(unique("closing")); len(left) > 0 {
		t.Errorf("cgroups %v are left", left)
	}
	if _, err := m.Output(context.Background(), "true"); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("a command in a closed machine: %v", err)
	}
}

func TestBootErrors(t *testing.T) {
	tier.Need(t, "machine", tier.Machine())
	for want, opts := range map[string]machine.Options{
		"not a host name":          {Name: "a b"},
		"absolute path below /":    {Binds: []machine.Bind{{Source: "/etc", Target: "relative"}}},
		"hold an installed system": {Root: t.TempDir()},
		"must exist":               {Binds: []machine.Bind{{Source: "/no/such/file", Target: "/x"}}},
		"bind the host's files":    {Name: unique("broken"), Binds: []machine.Bind{{Source: "/etc/passwd", Target: "/proc/x"}}},
		"deadline exceeded":        {Name: unique("late"), BootTimeout: time.Nanosecond},
	} {
		m, err := machine.Boot(t.Context(), opts)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", opts, err, want)
		}
		if m != nil {
			m.Close()
		}
	}
	if left := append(cgroupsOf(unique("broken")), cgroupsOf(unique("late"))...); len(left) > 0 {
		t.Errorf("cgroups %v are left", left)
	}
}
