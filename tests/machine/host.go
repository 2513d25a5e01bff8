package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stateDir holds the lock files through which the keepers of all machines on this host agree.
const stateDir = "/run/opencoded-machine"

// logAllNetns makes "log" rules of network namespaces other than the first reach the kernel log. It exists in the
// first one only; elsewhere (a container) there is nothing to set.
const logAllNetns = "/proc/sys/net/netfilter/nf_log_all_netns"

const cgroupPrefix = "opencoded-machine-"

// lease is all that a machine takes from the host: a cgroup and a share in the kernel-log switch. The locks on it
// end with the keeper whatever becomes of it, which is how the next keeper knows what is left over.
type lease struct {
	cgroup  string   // directory
	group   *os.File // the same, locked
	holders *os.File // locked shared by each keeper while its machine lives
}

// takeFromHost clears what dead keepers left, then takes a cgroup and turns the kernel-log switch on.
func takeFromHost(name string) (_ *lease, err error) {
	unlock, err := lockHost()
	if err != nil {
		return nil, err
	}
	defer unlock()

	root, err := cgroupRoot()
	if err != nil {
		return nil, err
	}
	if err := clearStale(root); err != nil {
		return nil, err
	}
	l := &lease{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.release())
		}
	}()
	// A child of the root, beside systemd's own slices and without going through systemd: it leaves top-level groups
	// that it does not know alone, which is what the cgroupfs driver of container engines relies on, too.
	if l.cgroup, err = os.MkdirTemp(root, cgroupPrefix+name+"-"); err != nil {
		return nil, fmt.Errorf("cannot make a cgroup: %w (is %s writable?)", err, root)
	}
	if err := os.Chmod(l.cgroup, 0o755); err != nil {
		return nil, err
	}
	if l.group, err = os.Open(l.cgroup); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(l.group.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", l.cgroup, err)
	}
	if err := l.logOn(); err != nil {
		return nil, err
	}
	return l, nil
}

// giveBack undoes takeFromHost. The machine must be dead.
func (l *lease) giveBack() error {
	unlock, err := lockHost()
	if err != nil {
		return err
	}
	defer unlock()
	return l.release()
}

func (l *lease) release() error {
	var errs []error
	if l.holders != nil {
		errs = append(errs, l.logOff())
	}
	if l.cgroup != "" {
		errs = append(errs, removeCgroup(l.cgroup))
	}
	if l.group != nil {
		errs = append(errs, l.group.Close())
	}
	return errors.Join(errs...)
}

// lockHost keeps the keepers of this host apart while one of them takes or gives back.
func lockHost() (unlock func(), err error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make %s: %w", stateDir, err)
	}
	f, err := os.OpenFile(filepath.Join(stateDir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", f.Name(), err), f.Close())
	}
	return func() { f.Close() }, nil
}

// logOn turns the kernel-log switch on and remembers, in the file of holders, what it was before the first machine.
// A memory already there is of a keeper that was killed: that value, not today's, is the host's own.
func (l *lease) logOn() error {
	was, err := os.ReadFile(logAllNetns)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(stateDir, "nf_log_all_netns"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	l.holders = f
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		if st, err := f.Stat(); err != nil || st.Size() > 0 {
			was = nil
		}
		if _, err := f.Write(was); err != nil {
			return err
		}
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		return fmt.Errorf("cannot lock %s: %w", f.Name(), err)
	}
	return os.WriteFile(logAllNetns, []byte("1\n"), 0)
}

// logOff leaves the holders, and as the last one puts the switch back.
func (l *lease) logOff() error {
	defer l.holders.Close()
	if unix.Flock(int(l.holders.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // another machine runs
	}
	was, err := os.ReadFile(l.holders.Name())
	if err == nil && len(was) > 0 {
		err = os.WriteFile(logAllNetns, was, 0)
	}
	if err != nil {
		return fmt.Errorf("cannot restore %s: %w", logAllNetns, err)
	}
	return os.Remove(l.holders.Name())
}

// cgroupRoot is where the host has cgroup v2 mounted: /sys/fs/cgroup, or a directory in it beside v1 controllers.
func cgroupRoot() (string, error) {
	mounts, err := readMounts()
	if err != nil {
		return "", err
	}
	for _, m := range mounts {
		if m.fsType == "cgroup2" && m.root == "/" {
			return m.point, nil
		}
	}
	return "", errors.New("cannot find a cgroup v2 hierarchy (mount -t cgroup2 cgroup2 /sys/fs/cgroup, or boot " +
		"with systemd.unified_cgroup_hierarchy=1)")
}

// clearStale ends and removes machines whose keeper is dead: nobody holds the lock on their cgroup.
func clearStale(root string) error {
	dirs, err := filepath.Glob(filepath.Join(root, cgroupPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		d, err := os.Open(dir)
		if err != nil {
			continue
		}
		if unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = errors.Join(os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0), removeCgroup(dir))
		}
		d.Close()
		if err != nil {
			return fmt.Errorf("cannot clear what a killed machine left: %w", err)
		}
	}
	return nil
}

// removeCgroup removes a cgroup and those below it, waiting for the last processes to leave them.
func removeCgroup(dir string) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := removeOnce(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cannot remove %s: %w (see cgroup.procs below it)", dir, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func removeOnce(dir string) error {
	children, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, c := range children {
		if c.IsDir() {
			if err := removeOnce(filepath.Join(dir, c.Name())); err != nil {
				return err
			}
		}
	}
	return unix.Rmdir(dir)
}

type mountEntry struct{ root, point, fsType string }

// readMounts reads /proc/self/mountinfo (proc_pid_mountinfo(5)).
func readMounts() ([]mountEntry, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var mounts []mountEntry
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		b, a := strings.Fields(before), strings.Fields(after)
		if len(b) < 5 || len(a) < 1 {
			continue
		}
		mounts = append(mounts, mountEntry{root: unescape.Replace(b[3]), point: unescape.Replace(b[4]), fsType: a[0]})
	}
	return mounts, nil
}
