// Package host holds the effects: it reads the host (accounts, files, systemd,
// nftables) and carries out plans. What the host should look like it never
// decides; that is internal/plan, from what internal/instance, internal/sandbox,
// internal/netpolicy and internal/config say.
//
// Root runs this code, and instances own some of the directories that it works
// in. So nothing is created by following a path that an instance can write, and
// nothing is believed that somebody other than root could have written.
package host

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/coreos/go-systemd/v22/dbus"
	"golang.org/x/sys/unix"

	"github.com/opencoded/opencoded/internal/netpolicy"
)

// RunDir holds locks; it is gone after a boot.
const RunDir = "/run/opencoded"

// Host is a connection to this machine's systemd and packet filter.
type Host struct {
	bus    *dbus.Conn
	kernel *netpolicy.Kernel
}

// ErrNotRoot means that what was asked for needs root.
var ErrNotRoot = errors.New("must be run as root")

// Open connects to systemd and nftables. Errors say which is missing and what
// brings it.
func Open(ctx context.Context) (*Host, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	// sd_booted(3): this directory exists exactly when systemd is PID 1.
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return nil, errors.New("cannot reach systemd: it is not running as the first process of this host " +
			"(boot the host with systemd, install the package systemd-sysv; `make demo` boots a throwaway machine)")
	}
	kernel, err := netpolicy.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot use nftables: %w", err)
	}
	bus, err := dbus.NewSystemdConnectionContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot reach systemd over D-Bus: %w (is /run/systemd/private there? `systemctl status` says more)", err)
	}
	return &Host{bus: bus, kernel: kernel}, nil
}

// Close ends the connections.
func (h *Host) Close() { h.bus.Close() }

// isNotExist also covers a path whose parent is a file.
func isNotExist(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}
