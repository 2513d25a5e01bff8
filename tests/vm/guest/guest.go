// Package guest boots virtual machines for the tests: QEMU, Debian's stock kernel, a disk of its own. They have what a
// throwaway machine (tests/machine) borrows from its host: a kernel with its own log and memory controller, a boot, a
// disk that a power cut can catch half-written. A boot takes some twenty seconds where QEMU has to emulate.
//
// Three parts: a disk ([NewDisk]), which outlives what is booted off it; a guest ([Disk.Boot]), which can be rebooted
// and cut off; and the agent in it (agent.go), which runs commands and talks over a virtio-serial port, because a guest
// has no network at all. A guest ends with the test that booted it, and with the process that runs the test.
package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opencoded/opencoded/tests/machine"
)

// bootTimeout is for a boot with its services, emulated on a busy host: ten times what it takes on an idle one.
const bootTimeout = 4 * time.Minute

// commandTimeout is for a command that takes a moment.
const commandTimeout = time.Minute

// Guest is a running virtual machine. One command runs in it at a time.
type Guest struct {
	disk    *Disk
	console string // file
	qemu    *os.Process
	wire    net.Conn
	gone    chan struct{} // closed when QEMU has ended

	mu     sync.Mutex // held while a command runs
	events *json.Decoder
}

// Boot starts a virtual machine off the disk, and waits until its systemd has started everything. It ends with the
// test, which then shows its console if it failed.
func (d *Disk) Boot(t *testing.T) *Guest {
	t.Helper()
	g := &Guest{disk: d, console: filepath.Join(t.TempDir(), "console"), gone: make(chan struct{})}
	here, there, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	g.wire, g.events = here, json.NewDecoder(here)
	began := time.Now()
	started := make(chan error, 1)
	go g.keep(d.command(g.console, there), started)
	if err := <-started; err != nil {
		t.Fatalf("cannot start QEMU: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the console's last lines:\n%s", g.lastLines(60))
		}
		g.Cut()
	})
	if err := g.awaitBoot(); err != nil {
		t.Fatal(err)
	}
	t.Logf("booted by %s in %.0f s", accelerator(), time.Since(began).Seconds())
	return g
}

// command is QEMU without anything that was not asked for: no network, no default devices, no configuration of the
// host's. Descriptor 3 is the agent's port.
//
// Not cache=unsafe: a guest's flush has to reach the image's tables, which are in QEMU's memory, or a power cut would
// undo what was written for good. What the guest did not flush may be lost, as from a disk's own cache.
func (d *Disk) command(console string, port *os.File) *exec.Cmd {
	cmd := exec.Command(qemu, "-accel", accelerator(), "-cpu", "max", "-smp", "2", "-m", "3072",
		"-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot",
		"-kernel", d.kernel, "-initrd", d.initrd, "-append", "console=ttyS0 root=/dev/vda rw panic=-1 mitigations=off tsc=reliable",
		"-drive", "file="+d.overlay+",format=qcow2,if=virtio,cache=writeback",
		"-serial", "file:"+console,
		"-device", "virtio-serial-pci", "-chardev", "socket,id=agent,fd=3",
		"-device", "virtserialport,chardev=agent,name="+portName)
	cmd.ExtraFiles = []*os.File{port}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd
}

// keep runs QEMU to its end, on a thread that does nothing else: PR_SET_PDEATHSIG means the death of the thread.
func (g *Guest) keep(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer close(g.gone)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	g.qemu = cmd.Process
	started <- nil
	_ = cmd.Wait() // it is killed, nearly always
}

// socketPair is a connection of which one end is for a child.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	mine, theirs := os.NewFile(uintptr(fds[0]), "agent"), os.NewFile(uintptr(fds[1]), "port")
	defer mine.Close()
	conn, err := net.FileConn(mine)
	if err != nil {
		theirs.Close()
	}
	return conn, theirs, err
}

// Cut ends the machine as a power cut does: whatever runs in it runs no further, and what is not on the disk is lost.
func (g *Guest) Cut() {
	_ = g.qemu.Kill() // one that has ended is as good
	<-g.gone
	g.wire.Close()
}

// Reboot lets systemd shut everything down and reboot, and returns the machine that is there then. It is another QEMU:
// one that emulates needs a minute and a half to load a kernel over the code of the last one.
func (g *Guest) Reboot(t *testing.T) *Guest {
	t.Helper()
	if err := g.send(request{Argv: []string{"systemctl", "reboot"}, Timeout: commandTimeout}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-g.gone:
	case <-time.After(bootTimeout):
		t.Fatalf("the virtual machine did not shut down within %s", bootTimeout)
	}
	return g.disk.Boot(t)
}

// awaitBoot waits for the agent, and then for the end of the boot.
func (g *Guest) awaitBoot() error {
	_ = g.wire.SetReadDeadline(time.Now().Add(bootTimeout))
	var e event
	if err := g.events.Decode(&e); err != nil {
		return fmt.Errorf("the virtual machine did not boot within %s: %w", bootTimeout, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootTimeout)
	defer cancel()
	state, err := g.Output(ctx, "systemctl", "is-system-running", "--wait")
	if state != "running" && state != "degraded" { // which units failed is for the tests to judge
		return fmt.Errorf("systemd is %q after the boot: %w\n%s", state, err, g.Diagnose())
	}
	return nil
}

// lastLines is the end of what the console said.
func (g *Guest) lastLines(n int) string {
	text, err := os.ReadFile(g.console)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// RunTest runs the one test that t is in the guest, see [machine.RunTest].
func (g *Guest) RunTest(t *testing.T) {
	t.Helper()
	machine.RunTest(t, g, binaryInside)
}

// Output runs a program and returns what it printed, both streams.
func (g *Guest) Output(ctx context.Context, argv ...string) (string, error) {
	var out strings.Builder
	err := g.RunProgram(ctx, &out, nil, argv...)
	return strings.TrimSpace(out.String()), err
}

// ReadFile returns the content of a file of the guest.
func (g *Guest) ReadFile(path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	var out bytes.Buffer
	err := g.RunProgram(ctx, &out, nil, "cat", path)
	return out.Bytes(), err
}

// Diagnose is what an engineer would look at first: failed units, pending jobs, the end of the journal.
func (g *Guest) Diagnose() string {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	out, err := g.Output(ctx, "sh", "-c", "systemctl list-units --failed --plain --no-legend; systemctl list-jobs --no-legend; "+
		"journalctl --no-pager -b -n 80")
	if err != nil {
		out += err.Error()
	}
	return out
}

// RunProgram runs a program as root with these variables besides the usual ones, and passes on both its streams. It
// ends with ctx's deadline, or after an hour; the guest is of no further use if even its agent does not answer then.
func (g *Guest) RunProgram(ctx context.Context, out io.Writer, env []string, argv ...string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Hour)
	}
	if err := g.send(request{argv, env, time.Until(deadline)}); err != nil {
		return err
	}
	_ = g.wire.SetReadDeadline(deadline.Add(30 * time.Second))
	for {
		var e event
		if err := g.events.Decode(&e); err != nil {
			return fmt.Errorf("lost the virtual machine while %q ran: %w", argv, err)
		}
		switch {
		case e.Ready:
			return fmt.Errorf("the agent was started anew while %q ran", argv)
		case e.Error != "":
			return errors.New(e.Error)
		case e.Ended:
			return nil
		}
		if _, err := out.Write(e.Output); err != nil {
			return err
		}
	}
}

func (g *Guest) send(r request) error {
	if err := json.NewEncoder(g.wire).Encode(r); err != nil {
		return fmt.Errorf("cannot run %q in the virtual machine: %w", r.Argv, err)
	}
	return nil
}
