package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// keep is the keeper's main: it takes what the machine needs from the host, starts the guest, and when the caller
// has gone, for whatever reason, ends the guest and gives everything back. It returns the exit code.
func keep() int {
	// A caller that died leaves broken pipes on our output; that must not kill us before we have cleaned up.
	// Notify and not Ignore: an ignored signal would be inherited by the machine.
	stop := make(chan os.Signal, 1)
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)

	say := json.NewEncoder(os.Stdout)
	if err := keepMachine(say, stop); err != nil {
		_ = say.Encode(report{Error: err.Error()})
		return 1
	}
	return 0
}

func keepMachine(say *json.Encoder, stop <-chan os.Signal) (err error) {
	var sp spec
	if err := json.NewDecoder(os.Stdin).Decode(&sp); err != nil {
		return fmt.Errorf("cannot read what machine to keep: %w", err)
	}
	hungUp := make(chan struct{})
	go func() {
		defer close(hungUp)
		_, _ = io.Copy(io.Discard, os.Stdin) // nothing more is ever said: this ends with the caller
	}()

	lease, err := takeFromHost(sp.Name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lease.giveBack()) }()

	guest, err := startGuest(sp, lease)
	if err != nil {
		return err
	}
	_ = say.Encode(report{PID: guest.Process.Pid, Cgroup: lease.cgroup})

	ended := make(chan error, 1)
	go func() { ended <- guest.Wait() }()
	select {
	case <-hungUp:
	case <-stop:
	case err := <-ended:
		return fmt.Errorf("the machine's systemd ended by itself: %w (look at the machine's log)", orEOF(err))
	}
	// Wait returns only when the kernel has killed and reaped everything else in the PID namespace
	// (zap_pid_ns_processes), so nothing of the machine runs afterwards.
	_ = guest.Process.Kill()
	<-ended
	return nil
}

// startGuest starts the machine's first process and returns once it has become systemd.
func startGuest(sp spec, lease *lease) (*exec.Cmd, error) {
	told, tell, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer told.Close()
	failed, fail, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, tell.Close())
	}
	defer failed.Close()

	guest := reexec(roleGuest)
	guest.Dir = "/"
	guest.Stdin = told
	guest.Stdout, guest.Stderr = os.Stderr, os.Stderr
	guest.ExtraFiles = []*os.File{fail} // becomes descriptor 3: guestErrors
	guest.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		// The cgroup namespace comes after the birth in the new cgroup: made together with it (in Cloneflags), its
		// root would be the keeper's own cgroup (copy_cgroup_ns looks at the parent), and the machine's systemd
		// would rearrange the host's tree.
		Unshareflags: unix.CLONE_NEWCGROUP,
		UseCgroupFD:  true,
		CgroupFD:     int(lease.group.Fd()),
		Pdeathsig:    unix.SIGKILL,
		Setsid:       true,
	}
	err = guest.Start()
	fail.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make the namespaces: %w "+
			"(needs root with all capabilities and a kernel of version 5.12 or later)", err), tell.Close())
	}
	_ = json.NewEncoder(tell).Encode(sp)
	tell.Close()

	// The guest closes its end by becoming systemd, or says why it could not.
	why, err := io.ReadAll(failed)
	if err == nil && len(why) == 0 {
		return guest, nil
	}
	_ = guest.Process.Kill()
	_ = guest.Wait()
	return nil, errors.Join(errors.New(string(why)), err)
}

func orEOF(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
