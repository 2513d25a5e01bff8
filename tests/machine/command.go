package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// makeCommandGroup makes the cgroup in which commands run. Without it they would stay in the caller's, outside of
// the machine's tree, from where its systemd may not take them into a scope.
func makeCommandGroup(cgroup string) (*os.File, error) {
	dir := filepath.Join(cgroup, "command")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make a cgroup for commands: %w", err)
	}
	return os.Open(dir)
}

// Command prepares a program to run in the machine: in all its namespaces, as root with HOME=/root and the usual
// PATH, in the directory /. Its exit code is the program's. The end of ctx kills it and its descendants.
func (m *Machine) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	argv := append([]string{"--target", strconv.Itoa(m.pid), "--all", "--", name}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", argv...)
	cmd.Env = []string{"PATH=" + searchPath, "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/bash",
		"LANG=C.UTF-8", "SYSTEMD_PAGER=", "TERM=" + os.Getenv("TERM")}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(m.commands.Fd())}
	cmd.Cancel = func() error { return m.killTree(cmd.Process) }
	cmd.WaitDelay = 5 * time.Second
	select {
	case <-m.gone:
		cmd.Err = errors.New("cannot run " + name + " in the machine: it has ended")
	default:
	}
	return cmd
}

// killTree kills what nsenter started before nsenter itself, which would leave it running in the machine.
func (m *Machine) killTree(nsenter *os.Process) error {
	parents := map[int]int{}
	text, err := os.ReadFile(filepath.Join(m.commands.Name(), "cgroup.procs"))
	for _, field := range strings.Fields(string(text)) {
		pid, _ := strconv.Atoi(field)
		parents[pid] = parentOf(pid)
	}
	for pid := range parents {
		for p := parents[pid]; p != 0; p = parents[p] {
			if p == nsenter.Pid {
				_ = unix.Kill(pid, unix.SIGKILL) // gone already is as good
				break
			}
		}
	}
	return errors.Join(err, nsenter.Kill())
}

// parentOf reads the fourth field of /proc/PID/stat; the second may hold spaces and parentheses.
func parentOf(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := bytes.Cut(text[max(0, bytes.LastIndexByte(text, ')')):], []byte(" "))
	fields := bytes.Fields(after)
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(string(fields[1]))
	return ppid
}

// Output runs a program in the machine and returns what it printed. The error of one that fails names it and holds
// what it said on standard error.
func (m *Machine) Output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := m.Command(ctx, name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(append([]string{name}, args...), " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), err
}

// RunProgram runs a program in the machine and passes on what it prints, see [Place].
func (m *Machine) RunProgram(ctx context.Context, out io.Writer, env []string, argv ...string) error {
	cmd := m.Command(ctx, argv[0], argv[1:]...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd.Run()
}

// ReadFile reads a file of the machine; see Root about links.
func (m *Machine) ReadFile(path string) ([]byte, error) { return os.ReadFile(m.Root() + path) }

// WriteFile writes a file in the machine, with its parent directories. It is done from inside, because a link on the
// way may be absolute and would lead a writer outside to the host's file of that name.
func (m *Machine) WriteFile(path string, data []byte, mode os.FileMode) error {
	cmd := m.Command(context.Background(), "install", "-D", "-m", fmt.Sprintf("%04o", mode.Perm()), "/dev/stdin", path)
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot write %s in the machine: %w: %s", path, err, bytes.TrimSpace(out))
	}
	return nil
}

// Diagnose is what an engineer would look at first when something in the machine went wrong: failed units, pending
// jobs, and the end of the journal.
func (m *Machine) Diagnose() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var b strings.Builder
	for _, argv := range [][]string{
		{"systemctl", "list-units", "--failed", "--plain", "--no-legend"},
		{"systemctl", "list-jobs", "--no-legend"},
		// Not the kernel's: its log is the host's, and drowns what the machine says.
		{"journalctl", "--no-pager", "-b", "-n", "60", "_TRANSPORT=stdout", "_TRANSPORT=journal", "_TRANSPORT=syslog"},
	} {
		out, _ := m.Command(ctx, argv[0], argv[1:]...).CombinedOutput()
		fmt.Fprintf(&b, "--- %s\n%s", strings.Join(argv, " "), out)
	}
	return b.String()
}
