package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// systemdBinary is where the distribution whose root is that directory has the program that becomes PID 1.
func systemdBinary(root string) string {
	for _, path := range []string{"/lib/systemd/systemd", "/usr/lib/systemd/systemd"} {
		if _, err := os.Stat(filepath.Join(root, path)); err == nil {
			return path
		}
	}
	return "/usr/lib/systemd/systemd"
}

// Check says everything that keeps a machine from booting on this host, each with its remedy, or nil.
func Check() error {
	if os.Geteuid() != 0 {
		return errors.New("cannot boot a machine: not root (run it as root, for example with sudo)")
	}
	var missing []error
	if !hasCapability(unix.CAP_SYS_ADMIN) {
		missing = append(missing, errors.New("root without CAP_SYS_ADMIN, as in an unprivileged container "+
			"(use a privileged one, or the host)"))
	}
	if _, err := os.Stat(systemdBinary("/")); err != nil {
		missing = append(missing, errors.New("no systemd (apt-get install systemd)"))
	}
	for _, c := range []struct{ command, pkg string }{
		{"systemctl", "systemd"}, {"journalctl", "systemd"}, {"dbus-daemon", "dbus"}, {"nsenter", "util-linux"},
	} {
		if _, err := exec.LookPath(c.command); err != nil {
			missing = append(missing, fmt.Errorf("no command %s (apt-get install %s)", c.command, c.pkg))
		}
	}
	if !kernelHas("overlay") {
		missing = append(missing, errors.New("no overlay file system in the kernel (modprobe overlay)"))
	}
	if _, err := cgroupRoot(); err != nil {
		missing = append(missing, err)
	}
	if len(missing) == 0 {
		return nil
	}
	var list strings.Builder
	for i, err := range missing {
		if i > 0 {
			list.WriteString("; ")
		}
		list.WriteString(err.Error())
	}
	return errors.New("cannot boot a machine: " + list.String())
}

// kernelHas reports whether the kernel knows a file system, loading its module if it must.
func kernelHas(fsType string) bool {
	known := func() bool {
		text, _ := os.ReadFile("/proc/filesystems")
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 0 && f[len(f)-1] == fsType {
				return true
			}
		}
		return false
	}
	if known() {
		return true
	}
	_ = exec.Command("modprobe", fsType).Run()
	return known()
}

func hasCapability(capability uint) bool {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return err == nil && set&(1<<capability) != 0
		}
	}
	return false
}
