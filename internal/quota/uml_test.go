package quota

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opencoded/opencoded/tests/tier"
)

// Few kernels on which tests run have project quotas built in, and those of containers and small virtual machines often
// have none. So these tests bring their own kernel: user-mode Linux, Debian's, which is an ordinary program. Its first
// process is this test binary; it sees the files of the host read-only.

const (
	insideVariable = "OPENCODED_QUOTA_TEST" // which test the first process of user-mode Linux runs
	verdict        = "first process: exit code "
)

func TestMain(m *testing.M) {
	test := os.Getenv(insideVariable)
	if test == "" {
		os.Exit(m.Run())
	}
	if os.Getpid() != 1 {
		os.Exit(playUser(test, os.Args[1:]))
	}
	code := 1
	if err := setUp(); err != nil {
		fmt.Println(err)
	} else {
		code = m.Run()
	}
	fmt.Printf("\n%s%d\n", verdict, code)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// inKernel runs the test under a kernel with project quotas, with these files as its disks. It reports whether this
// is that kernel; otherwise the test is over.
func inKernel(t *testing.T, disks ...string) bool {
	t.Helper()
	if os.Getenv(insideVariable) != "" {
		return true
	}
	linux, err := exec.LookPath("linux.uml")
	if err != nil {
		err = errors.New("no command linux.uml (run scripts/prepare, or apt-get install user-mode-linux)")
	}
	tier.Need(t, "quota", errors.Join(tier.Root(), err))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"mem=256M", "root=/dev/root", "rootfstype=hostfs", "ro", "quiet", "con=null", "con0=fd:0,fd:1",
		"init=" + self, insideVariable + "=" + t.Name(), "TMPDIR=/tmp"}
	for n, d := range disks {
		args = append(args, fmt.Sprintf("ubd%d=%s", n, d))
	}
	// What follows goes to the first process as its arguments.
	args = append(args, "--", "-test.v", "-test.run=^"+t.Name()+"$")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, linux, args...)
	c.Dir = t.TempDir()
	c.Env = append(os.Environ(), "TMPDIR=/dev/shm", "HOME="+c.Dir) // its memory is a file, deleted at once
	// Its processes are traced ones of the host, and would outlive it.
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	c.Cancel = func() error { return unix.Kill(-c.Process.Pid, unix.SIGKILL) }
	c.WaitDelay = 5 * time.Second
	out, err := c.CombinedOutput()
	if !bytes.Contains(out, []byte(verdict+"0")) || !bytes.Contains(out, []byte("--- PASS: "+t.Name()+" ")) {
		t.Errorf("failed under user-mode Linux: %v\n%s", err, out)
	}
	for l := range strings.Lines(string(out)) {
		t.Log(strings.TrimSpace(l))
	}
	return false
}

// setUp makes a system of what the kernel has started.
func setUp() error {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/tmp"}, {"tmpfs", "/mnt"}} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	for _, module := range []string{"quota_tree", "quota_v2"} {
		path := filepath.Join("/usr/lib/uml/modules", unix.ByteSliceToString(name.Release[:]), "kernel/fs/quota", module+".ko")
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
			return fmt.Errorf("load %s: %w", path, err)
		}
	}
	return os.Setenv("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
}

// disk makes a file with a file system in it.
func disk(t *testing.T, mkfs ...string) string {
	t.Helper()
	if os.Getenv(insideVariable) != "" {
		return ""
	}
	path := filepath.Join(t.TempDir(), "disk")
	err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 320<<20)) // mkfs.xfs makes none below 300 MiB
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath(mkfs[0])
	if err != nil {
		tier.Need(t, "quota", fmt.Errorf("no command %s (run scripts/prepare)", mkfs[0]))
	}
	if out, err := exec.Command(program, append(mkfs[1:], path)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", mkfs, err, out)
	}
	return path
}
