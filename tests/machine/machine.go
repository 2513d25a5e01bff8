// Package machine boots throwaway systemd machines for the tests and the demonstration.
//
// A machine is a set of fresh namespaces (mount, PID, network, IPC, UTS, cgroup) over an overlay of the host's root
// file system, with the host's own systemd as its first process: a real PID 1, D-Bus, journald and nftables within
// seconds, and nothing of the host changed. It is no sandbox: root inside is root. Memory limits work inside only
// where the host has a pure cgroup v2.
//
// Three processes take part, all of them the calling program, re-executed through [Init]:
//
//   - the caller, which asks for the machine ([Boot]) and runs commands in it ([Machine.Command]);
//   - the keeper, in a session of its own, which holds what the machine takes from the host (host.go) and gives it
//     back when the pipe from the caller closes. So a panic, os.Exit, a signal or SIGKILL of the caller need no
//     handling in the caller: they all close the pipe;
//   - the guest, the machine's first process, which mounts (guest.go), says what may start (units.go) and becomes
//     systemd. It dies with the keeper (PR_SET_PDEATHSIG), and everything in its PID namespace dies with it.
package machine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options says what a machine is like. The zero value boots one.
type Options struct {
	// Name is the host name of the machine, 1 to 40 of a-z, 0-9 and '-'. Default "machine".
	Name string

	// Root is a directory of the host whose files the machine starts from: the root of an installed system, with a
	// systemd of its own. Default $MACHINE_ROOT, so that any test can be run on another system, or the host's own "/".
	Root string

	// Disk is a directory of the host that takes the machine's changes and keeps them, so that the next machine with
	// it goes on where this one ended. Default: memory that goes with the machine. No file system but those that can
	// be an overlay's upper layer will do; tmpfs can.
	Disk string

	// Binds are files and directories of the host that the machine sees read-only at another place.
	Binds []Bind

	// Log receives what the machine's first process prints and what boot wants said. Default: nowhere.
	Log io.Writer

	// BootTimeout is how long systemd may take until it is running. Default one minute.
	BootTimeout time.Duration
}

// Bind is one read-only bind mount. Source is a file or directory of the host (links are followed), Target an
// absolute path in the machine, made when it is absent.
type Bind struct{ Source, Target string }

// Machine is a booted machine. Its methods may be called from several goroutines.
type Machine struct {
	pid      int      // the first process, as the host numbers it
	commands *os.File // the cgroup of what Command runs

	keeper   *exec.Cmd
	lifeline io.Closer     // closing it ends the machine
	gone     chan struct{} // closed when the keeper has ended
	farewell error         // the keeper's last word, valid once gone is closed

	closeOnce sync.Once
	closeErr  error
}

var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// Boot starts a machine and waits until its systemd is up: "running", or "degraded" when a unit of the host's
// packages failed, which is told to opts.Log. The caller must Close it; a caller that dies has it closed for it.
// ctx bounds the boot, not the machine's life.
func Boot(ctx context.Context, opts Options) (*Machine, error) {
	if !initCalled {
		return nil, errors.New("cannot boot a machine: this program re-executes itself for it and would start " +
			"over (call machine.Init first thing in main or TestMain)")
	}
	if err := Check(); err != nil {
		return nil, err
	}
	sp, err := opts.spec()
	if err != nil {
		return nil, err
	}
	if opts.Log == nil {
		opts.Log = io.Discard
	}
	timeout := opts.BootTimeout
	if timeout == 0 {
		timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	m, err := start(ctx, sp, opts.Log)
	if err != nil {
		return nil, fmt.Errorf("cannot boot machine %s: %w", sp.Name, err)
	}
	if err := m.awaitRunning(ctx, opts.Log); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot boot machine %s: %w", sp.Name, err), m.Close())
	}
	return m, nil
}

// spec checks the options and makes their paths independent of the caller's working directory.
func (o Options) spec() (spec, error) {
	sp := spec{Name: o.Name}
	if sp.Name == "" {
		sp.Name = "machine"
	}
	if !hostName.MatchString(sp.Name) {
		return sp, fmt.Errorf("cannot boot machine %q: not a host name (use 1 to 40 of a-z, 0-9 and '-')", sp.Name)
	}
	if err := sp.startFrom(cmp.Or(o.Root, os.Getenv("MACHINE_ROOT"), "/")); err != nil {
		return sp, err
	}
	if o.Disk != "" {
		disk, err := filepath.Abs(o.Disk)
		if err != nil {
			return sp, err
		}
		sp.Disk = disk
	}
	for _, b := range o.Binds {
		if !filepath.IsAbs(b.Target) || filepath.Clean(b.Target) == "/" {
			return sp, fmt.Errorf("cannot bind %s on %q: not an absolute path below / (give one)", b.Source, b.Target)
		}
		source, err := filepath.Abs(b.Source)
		if err == nil {
			_, err = os.Stat(source)
		}
		if err != nil {
			return sp, fmt.Errorf("cannot bind %s on %s: %w (the source must exist on the host)", b.Source, b.Target, err)
		}
		sp.Binds = append(sp.Binds, Bind{source, filepath.Clean(b.Target)})
	}
	return sp, nil
}

// startFrom sets the directory whose files the machine starts from.
func (sp *spec) startFrom(dir string) (err error) {
	if sp.Root, err = filepath.Abs(dir); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(sp.Root, systemdBinary(sp.Root))); err != nil {
		return fmt.Errorf("cannot boot a machine from %s: %w (it must hold an installed system)", dir, err)
	}
	return nil
}

// start runs the keeper and waits until it says that systemd has been executed.
func start(ctx context.Context, sp spec, log io.Writer) (*Machine, error) {
	keeper := reexec(roleKeeper)
	keeper.Dir = "/"
	keeper.Stderr = log
	// A terminal's Ctrl-C reaches the whole foreground group; the keeper has to outlive the caller to clean up.
	keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	lifeline, err := keeper.StdinPipe()
	if err != nil {
		return nil, err
	}
	said, err := keeper.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := keeper.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the keeper: %w", err)
	}
	m := &Machine{keeper: keeper, lifeline: lifeline, gone: make(chan struct{})}
	// A write that fails means that the keeper died; what it said tells why.
	_ = json.NewEncoder(lifeline).Encode(sp)

	ready := make(chan report, 1)
	go m.listen(said, ready)
	select {
	case first, ok := <-ready:
		if !ok {
			<-m.gone
			return nil, m.farewell
		}
		m.pid = first.PID
		if m.commands, err = makeCommandGroup(first.Cgroup); err != nil {
			return nil, errors.Join(err, m.Close())
		}
		return m, nil
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("the first process was not ready in time: %w", ctx.Err()), m.Close())
	}
}

// listen passes on the keeper's first report, collects its last error and waits for its end.
func (m *Machine) listen(said io.Reader, ready chan<- report) {
	defer close(m.gone)
	answered := false
	for dec := json.NewDecoder(said); ; {
		var r report
		if err := dec.Decode(&r); err != nil {
			break
		}
		if r.Error != "" {
			m.farewell = errors.New(r.Error)
		} else if !answered {
			answered = true
			ready <- r
		}
	}
	if err := m.keeper.Wait(); err != nil && m.farewell == nil {
		m.farewell = fmt.Errorf("the keeper ended unexpectedly: %w", err)
	}
	if !answered {
		if m.farewell == nil {
			m.farewell = errors.New("the keeper ended without a word")
		}
		close(ready)
	}
}

// awaitRunning waits for the end of the boot. "degraded" is good enough: the host's packages bring units that a
// machine without hardware cannot run.
func (m *Machine) awaitRunning(ctx context.Context, log io.Writer) error {
	const socket = "run/systemd/private" // systemctl has nobody to talk to before it exists
	for {
		state := "not answering"
		if _, err := os.Lstat(filepath.Join(m.Root(), socket)); err == nil {
			out, _ := m.Command(ctx, "systemctl", "is-system-running", "--wait").Output()
			state = strings.TrimSpace(string(out))
		}
		switch state {
		case "running":
			return nil
		case "degraded":
			failed, _ := m.Output(ctx, "systemctl", "list-units", "--failed", "--plain", "--no-legend")
			fmt.Fprintf(log, "the machine is up, but degraded:\n%s", failed)
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-m.gone:
			return fmt.Errorf("systemd ended during the boot: %w", m.farewell)
		case <-ctx.Done():
			return fmt.Errorf("systemd is %s: %w\n%s", state, ctx.Err(), m.Diagnose())
		}
	}
}

// PID is the machine's first process as the host numbers it.
func (m *Machine) PID() int { return m.pid }

// Root is the machine's root directory as the host sees it, for reading. A symbolic link in it that is absolute
// leads to the *host's* files: write with [Machine.WriteFile].
func (m *Machine) Root() string { return fmt.Sprintf("/proc/%d/root", m.pid) }

// Close ends everything in the machine at once, as pulling the plug does, and gives back what it took from the host.
// Further calls return what the first one did.
func (m *Machine) Close() error {
	m.closeOnce.Do(func() {
		m.lifeline.Close()
		<-m.gone
		if m.commands != nil {
			m.commands.Close()
		}
		if m.farewell != nil {
			m.closeErr = fmt.Errorf("cannot close the machine cleanly: %w", m.farewell)
		}
	})
	return m.closeErr
}
