package machine_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/tier"
)

const (
	logSwitch = "/proc/sys/net/netfilter/nf_log_all_netns"
	logMemory = "/run/opencoded-machine/nf_log_all_netns" // exists while a machine runs
)

// The host is the same before, while and after a machine changes everything it can.
func TestHostIsUntouched(t *testing.T) {
	tier.Need(t, "machine", tier.Machine())
	before := hostState(t)
	m := boot(t, machine.Options{Name: unique("vandal")})
	output(t, m, "sh", "-ec", `
		mkdir -p /srv/a && mount -t tmpfs tmpfs /srv/a
		rm -rf /etc/default /var/lib/dpkg && echo x >> /etc/passwd && echo x > /etc/new
		ip link add type veth && hostname other
		systemd-run --unit=vandal --slice=vandal.slice sleep infinity`)
	if diff := difference(before, hostState(t)); len(diff) > 0 {
		t.Errorf("while the machine runs, the host differs:\n%s", strings.Join(diff, "\n"))
	}
	if value, err := os.ReadFile(logSwitch); err == nil && strings.TrimSpace(string(value)) != "1" {
		t.Errorf("while the machine runs, %s is %s", logSwitch, value)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := difference(before, hostState(t)); len(diff) > 0 {
		t.Errorf("afterwards, the host differs:\n%s", strings.Join(diff, "\n"))
	}
	if left := cgroupsOf(unique("vandal")); len(left) > 0 {
		t.Errorf("cgroups %v are left", left)
	}
}

// hostState is one line for each thing that a machine might leave: mounts, files of /etc, network devices, the host
// name and cgroups but for those of machines (others may run at the same time).
func hostState(t *testing.T) []string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	state := strings.Split(string(mounts), "\n")
	name, _ := os.Hostname()
	state = append(state, "host name "+name)
	links, _ := filepath.Glob("/sys/class/net/*")
	state = append(state, links...)
	for _, root := range []string{"/etc", "/sys/fs/cgroup"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // gone in between
			}
			if strings.HasPrefix(d.Name(), "opencoded-machine-") {
				return fs.SkipDir
			}
			if root == "/sys/fs/cgroup" {
				if d.IsDir() {
					state = append(state, path)
				}
				return nil
			}
			if st, err := os.Lstat(path); err == nil {
				state = append(state, fmt.Sprint(path, " ", st.Mode(), " ", st.Size(), " ", st.ModTime()))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return state
}

func difference(a, b []string) []string {
	var diff []string
	for _, line := range a {
		if !slices.Contains(b, line) {
			diff = append(diff, "- "+line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			diff = append(diff, "+ "+line)
		}
	}
	return diff
}

// victim is the other process in TestEveryWayOut: it boots a machine, says where it is, and dies.
func victim(how string) {
	m, err := machine.Boot(context.Background(), machine.Options{Name: os.Getenv("MACHINE_TEST_NAME"), Log: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(m.PID())
	switch how {
	case "panic":
		go panic("as asked")
	case "exit":
		os.Exit(3)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends, if it does not end us before
	os.Exit(0)
}

// However the caller ends, nothing of its machine is left, and the kernel-log switch is what it was.
func TestEveryWayOut(t *testing.T) {
	tier.Need(t, "machine", tier.Machine())
	_, err := os.Stat(logMemory)
	othersRun := err == nil
	switchBefore, _ := os.ReadFile(logSwitch)
	for name, signal := range map[string]syscall.Signal{
		"panic": 0, "exit": 0, "SIGINT": syscall.SIGINT, "SIGTERM": syscall.SIGTERM, "SIGKILL": syscall.SIGKILL,
	} {
		t.Run(name, func(t *testing.T) {
			cmd, pid := startVictim(t, name)
			namespace := namespaceOrGone(pid)
			if signal != 0 {
				if err := cmd.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
			}
			err := cmd.Wait()
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); signal != 0 && (!ok || status.Signal() != signal) {
				t.Errorf("the other process was to end by %v, it ended with: %v", signal, err)
			}
			await(t, "the end of all processes", func() bool { return len(processesIn(namespace)) == 0 })
			await(t, "the end of the cgroups", func() bool { return len(cgroupsOf(unique("orphan"))) == 0 })
			if _, err := os.Stat(logMemory); !othersRun && os.IsNotExist(err) {
				if now, _ := os.ReadFile(logSwitch); string(now) != string(switchBefore) {
					t.Errorf("%s was %s and is %s", logSwitch, switchBefore, now)
				}
			}
		})
	}
}

// Even the keeper may be killed: the machine dies with it, and the next boot clears what it could not.
func TestKeeperKilled(t *testing.T) {
	tier.Need(t, "machine", tier.Machine())
	cmd, pid := startVictim(t, "SIGKILL")
	namespace := namespaceOrGone(pid)
	if err := syscall.Kill(parentOf(t, pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of all processes", func() bool { return len(processesIn(namespace)) == 0 })
	if len(cgroupsOf(unique("orphan"))) == 0 {
		t.Log("what the killed keeper left was cleared by a boot outside of this test already")
	}
	if err := boot(t, machine.Options{Name: "next"}).Close(); err != nil {
		t.Error(err)
	}
	if left := cgroupsOf(unique("orphan")); len(left) > 0 {
		t.Errorf("cgroups %v are left", left)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func startVictim(t *testing.T, how string) (*exec.Cmd, int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	// A shell starts its background jobs with SIGINT ignored, and what they start inherits that.
	cmd := exec.CommandContext(ctx, "env", "--default-signal", self)
	cmd.Env = append(os.Environ(), "MACHINE_TEST_VICTIM="+how, "MACHINE_TEST_NAME="+unique("orphan"))
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the other process did not boot a machine: %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return cmd, pid
}

// namespaceOrGone is the PID namespace of a process that may have ended already; then it matches nothing.
func namespaceOrGone(pid int) string {
	link, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	return link
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "\nPPid:")
	ppid, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return ppid
}
