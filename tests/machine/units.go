package machine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The machine starts from what packages bring, not from what this host's operator chose: /etc/systemd/system, where
// units are enabled, is emptied; generators, which turn fstab, init scripts and the clusters of a database into
// units, are masked; and of the units that packages pull in by themselves only these stay. What is left boots the
// same on every host, quickly, and every installed unit can still be started by name.
var wantedUnits = []string{
	"dbus.service", "dbus.socket",
	"systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket",
	"systemd-journal-flush.service",
	"systemd-tmpfiles-setup.service",
}

// forgotten is what this project leaves on a host where it is installed, since a machine over such a host is a fresh
// one, and D-Bus's copy of the host's identity, which systemd would take up again.
var forgotten = []string{
	"/etc/opencode", "/var/lib/opencode", "/var/lib/opencoded", "/etc/sysusers.d/opencoded*",
	"/var/lib/dbus/machine-id",
}

const (
	unitDir      = "/etc/systemd/system"
	generatorDir = "/etc/systemd/system-generators"
)

// settleEtc runs inside the new root, so that every path, and every link in one, means the machine's.
func settleEtc(name string) error {
	return runSteps([]step{
		{"forget what is of this host", func() error { return removeAll(forgotten...) }},
		{"empty " + unitDir, func() error { return removeAll(unitDir, generatorDir) }},
		{"mask generators", func() error {
			return maskAll(generatorDir, nil, "/usr/lib/systemd/system-generators/*", "/lib/systemd/system-generators/*")
		}},
		{"mask units", func() error {
			return maskAll(unitDir, wantedUnits, "/usr/lib/systemd/system/*.target.wants/*", "/lib/systemd/system/*.target.wants/*")
		}},
		{"choose the target", func() error {
			return os.Symlink("/lib/systemd/system/multi-user.target", unitDir+"/default.target")
		}},
		{"write the settings", func() error { return writeSettings(name) }},
	})
}

func removeAll(patterns ...string) error {
	for _, p := range patterns {
		paths, err := filepath.Glob(p)
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// maskAll links the name of every file that a pattern matches to /dev/null in dir (systemd.unit(5)), but for the
// names to keep and for targets, which only group others.
func maskAll(dir string, keep []string, patterns ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range patterns {
		paths, err := filepath.Glob(p)
		if err != nil {
			return err
		}
		for _, path := range paths {
			name := filepath.Base(path)
			if slices.Contains(keep, name) || strings.HasSuffix(name, ".target") {
				continue
			}
			if err := os.Symlink("/dev/null", filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
	}
	return nil
}

func writeSettings(name string) error {
	hosts, _ := os.ReadFile("/etc/hosts")
	for path, text := range map[string]string{
		// Empty, not absent: a fresh identity without "first boot" and its presets (machine-id(5)).
		"/etc/machine-id": "",
		"/etc/hostname":   name + "\n",
		"/etc/hosts":      string(hosts) + "\n127.0.1.1 " + name + "\n",
		// The host's journals stay out of sight, the machine's in memory.
		"/etc/systemd/journald.conf.d/opencoded-machine.conf": "[Journal]\nStorage=volatile\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
