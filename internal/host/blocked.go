package host

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencoded/opencoded/internal/blocked"
	"github.com/opencoded/opencoded/internal/netpolicy"
)

// ErrSince means that journalctl does not understand a point in time.
var ErrSince = errors.New("journalctl does not understand it")

// KernelLog hands the kernel's entries of the journal to each, in order: those of this
// boot, or since a point in time in the notation of journalctl; with follow new ones
// as they come, until ctx ends, which is no error then. The remark is what journalctl
// said beside, such as that a file of the journal is damaged.
func (h *Host) KernelLog(ctx context.Context, since string, follow bool, each func(at time.Time, message string)) (remark string, err error) {
	// The facility keeps out what was written to /dev/kmsg: the kernel lets nobody but
	// itself use 0 (devkmsg_write in kernel/printk/printk.c).
	args := []string{"--no-pager", "--output=json", "--output-fields=MESSAGE", "_TRANSPORT=kernel", "SYSLOG_FACILITY=0"}
	switch {
	case since != "":
		args = append(args, "--since="+since)
	case follow:
		args = append(args, "--lines=0")
	default:
		args = append(args, "--boot")
	}
	if follow {
		args = append(args, "--follow")
		if since != "" {
			args = append(args, "--no-tail")
		}
	}
	child, cancel := context.WithCancel(ctx)
	defer cancel()
	c := exec.CommandContext(child, "journalctl", args...)
	c.Env = append(os.Environ(), "LC_ALL=C")
	// A group of its own: Ctrl-C is opencoded's to answer.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var complaint bytes.Buffer
	c.Stderr = &complaint
	out, err := c.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := c.Start(); err != nil {
		return "", fmt.Errorf("cannot read the journal: %w (journalctl is part of systemd)", err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if at, message, ok := journalEntry(lines.Bytes()); ok {
			each(at, message)
		}
	}
	if lines.Err() != nil {
		cancel() // it would wait for a reader
	}
	err = c.Wait()
	said := blocked.Printable(strings.TrimSpace(complaint.String()))
	switch {
	case ctx.Err() != nil && follow:
		return "", nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case strings.Contains(said, "Failed to parse timestamp"):
		return "", fmt.Errorf("%w: %s", ErrSince, said)
	case lines.Err() != nil:
		return "", fmt.Errorf("cannot read the journal: %w", lines.Err())
	case err != nil && said != "":
		return "", fmt.Errorf("cannot read the journal: %s", said)
	case err != nil:
		return "", fmt.Errorf("cannot read the journal: journalctl: %w", err)
	case follow:
		return "", errors.New("cannot follow the journal any longer: journalctl has ended")
	}
	return said, journalExists()
}

// journalEntry reads one line of journalctl --output=json. A message that is not
// UTF-8 is a list of numbers there, and none of netpolicy's.
func journalEntry(line []byte) (at time.Time, message string, ok bool) {
	var e struct {
		Message  any    `json:"MESSAGE"`
		Realtime string `json:"__REALTIME_TIMESTAMP"` // microseconds
	}
	if json.Unmarshal(line, &e) != nil {
		return time.Time{}, "", false
	}
	us, err := strconv.ParseInt(e.Realtime, 10, 64)
	message, ok = e.Message.(string)
	return time.UnixMicro(us), message, ok && err == nil
}

// journalExists makes sure that silence means that nothing was logged: journalctl
// says nothing where there is no journal at all.
func journalExists() error {
	for _, dir := range []string{"/run/log/journal", "/var/log/journal"} {
		if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
			return nil
		}
	}
	return errors.New("there is no journal on this host (is systemd-journald running, and Storage= of journald.conf not \"none\"?)")
}

// Counts are the counters of all instances, by name.
func (h *Host) Counts(ctx context.Context) (map[string]netpolicy.Counts, error) {
	return h.kernel.Counts(ctx)
}

// Policies are the compiled policies, by the names of their instances; none before
// the first apply.
func (h *Host) Policies() (map[string]netpolicy.Policy, error) {
	rules, err := CompiledRules()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	out := map[string]netpolicy.Policy{}
	for _, p := range rules.Policies {
		out[p.Name] = p
	}
	return out, err
}
