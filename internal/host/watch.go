package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"

	"github.com/opencoded/opencoded/internal/instance"
)

// WatchUnits names the instance whose service has changed its state, whenever one does, and "" after changes that
// were missed, until the context ends. It needs the system bus: the connection that Open makes carries no signals.
func WatchUnits(ctx context.Context) (<-chan string, error) {
	bus, err := dbus.NewSystemConnectionContext(ctx)
	if err == nil {
		err = bus.Subscribe()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot watch units over D-Bus: %w", err)
	}
	updates, lost, out := make(chan *dbus.PropertiesUpdate, 1024), make(chan error, 1), make(chan string, 64)
	bus.SetPropertiesSubscriber(updates, lost)
	go func() {
		defer bus.Close()
		for {
			name := ""
			select {
			case <-ctx.Done():
				return
			case u := <-updates:
				if name = unitInstance(u.UnitName); name == "" || u.UnitName != instance.ServiceName(name) {
					continue
				}
			case <-lost:
			}
			select {
			case out <- name:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// Usage is what the processes of a unit use, or have used since it started.
type Usage struct {
	CPU    float64 // seconds
	Memory uint64  // bytes
	Tasks  uint64  // processes and threads
}

// Usage reads the control group of a unit; zero where nothing runs.
func (u Unit) Usage() Usage {
	var use Usage
	if u.Group == "" {
		return use
	}
	dir := filepath.Join("/sys/fs/cgroup", u.Group)
	stat, _ := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	for l := range strings.Lines(string(stat)) {
		if f := strings.Fields(l); len(f) == 2 && f[0] == "usage_usec" {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			use.CPU = float64(n) / 1e6
		}
	}
	// What a controller would say that this host has not, the processes say.
	if text, err := os.ReadFile(filepath.Join(dir, "memory.current")); err == nil {
		use.Memory, _ = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	} else {
		use.Memory = residentMemory(u.Group)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "pids.current")); err == nil {
		use.Tasks, _ = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	} else {
		procs, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		use.Tasks = uint64(len(strings.Fields(string(procs))))
	}
	return use
}
