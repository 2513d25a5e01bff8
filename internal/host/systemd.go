package host

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/internal/sandbox"
)

// job is a unit operation of systemd's manager, such as StartUnit.
type job func(ctx context.Context, name, mode string, done chan<- string) (int, error)

// run asks for a job and waits for its result. The channel has room for the
// result: the library sends while it holds its lock, so a reader that has gone
// away must not block it.
func (h *Host) run(ctx context.Context, verb string, j job, unit string) error {
	done := make(chan string, 1)
	if _, err := j(ctx, unit, "replace", done); err != nil {
		return fmt.Errorf("cannot %s %s: %w", verb, unit, err)
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("cannot %s %s: %s", verb, unit, jobResult(result))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot %s %s: %w", verb, unit, context.Cause(ctx))
	}
}

// jobResult explains the results of systemd jobs (see org.freedesktop.systemd1(5)).
func jobResult(result string) string {
	switch result {
	case "dependency":
		return "its set-up failed"
	case "timeout":
		return "it took too long"
	case "failed":
		return "it failed"
	default:
		return "systemd says " + result
	}
}

func (h *Host) start(ctx context.Context, unit string) error {
	// After many failures systemd refuses to start a unit; the operator's word
	// begins a new count. A unit that never failed has nothing to reset.
	_ = h.bus.ResetFailedUnitContext(ctx, unit)
	return h.run(ctx, "start", h.bus.StartUnitContext, unit)
}

func (h *Host) restart(ctx context.Context, unit string) error {
	_ = h.bus.ResetFailedUnitContext(ctx, unit)
	return h.run(ctx, "restart", h.bus.RestartUnitContext, unit)
}

func (h *Host) stop(ctx context.Context, unit string) error {
	return h.run(ctx, "stop", h.bus.StopUnitContext, unit)
}

func (h *Host) enable(ctx context.Context, path string) error {
	runtime := strings.HasPrefix(path, "/run/")
	if _, _, err := h.bus.EnableUnitFilesContext(ctx, []string{filepath.Base(path)}, runtime, true); err != nil {
		return fmt.Errorf("cannot enable %s: %w", filepath.Base(path), err)
	}
	return nil
}

func (h *Host) disable(ctx context.Context, unit string) error {
	for _, runtime := range []bool{false, true} {
		if _, err := h.bus.DisableUnitFilesContext(ctx, []string{unit}, runtime); err != nil {
			return fmt.Errorf("cannot disable %s: %w", unit, err)
		}
	}
	return nil
}

func (h *Host) reload(ctx context.Context) error {
	if err := h.bus.ReloadContext(ctx); err != nil {
		return fmt.Errorf("cannot have systemd reload its units: %w", err)
	}
	return h.refilter(ctx)
}

// refilter has systemd give running units the IPAddress…= lines that it has just
// read. Most versions do so by themselves after a reload (seen: 252, 254, 262);
// 257 only notes that it should, and comes to it when another unit of the slice
// starts. One that is nothing but a control group does.
func (h *Host) refilter(ctx context.Context) error {
	slice := fmt.Sprintf("%s-reload%d.slice", strings.TrimSuffix(sandbox.Slice, ".slice"), os.Getpid())
	start := func(ctx context.Context, name, mode string, done chan<- string) (int, error) {
		return h.bus.StartTransientUnitContext(ctx, name, mode, nil, done)
	}
	if err := h.run(ctx, "start", start, slice); err != nil {
		return err
	}
	return h.stop(ctx, slice)
}

// Unit is the state of one unit, with what the status table shows.
type Unit struct {
	plan.Unit
	Since    time.Time // of the present state
	Group    string    // its control group; "" when nothing runs
	Memory   uint64    // bytes; 0 if not known
	Restarts uint32    // automatic ones since the last start
	Result   string    // of the last run: success, exit-code, signal, …
}

// Unit asks systemd about a service. One that systemd does not know is inactive.
func (h *Host) Unit(ctx context.Context, name, unitDir string) (Unit, error) {
	p, err := h.properties(ctx, name)
	if err != nil {
		return Unit{}, fmt.Errorf("cannot ask systemd about %s: %w", name, err)
	}
	u := Unit{Unit: plan.Unit{
		Active:     property[string](p, "ActiveState"),
		Sub:        property[string](p, "SubState"),
		NeedReload: property[bool](p, "NeedDaemonReload"),
		Ran:        property[uint64](p, "InactiveEnterTimestamp") > 0,
		MainPID:    property[uint32](p, "MainPID"),
		Enabled:    enabled(name, unitDir),
	}}
	u.Since = time.UnixMicro(int64(property[uint64](p, "StateChangeTimestamp")))
	u.Group = property[string](p, "ControlGroup")
	u.Restarts = property[uint32](p, "NRestarts")
	u.Result = property[string](p, "Result")
	u.Generation = processVariable(u.MainPID, "OPENCODED_GENERATION")
	if m := property[uint64](p, "MemoryCurrent"); m != ^uint64(0) {
		u.Memory = m
	} else if u.MainPID != 0 {
		u.Memory = residentMemory(u.Group)
	}
	return u, nil
}

// asked are the properties that unit reads, with their interface.
var asked = []struct{ kind, name string }{
	{"Unit", "ActiveState"}, {"Unit", "SubState"}, {"Unit", "NeedDaemonReload"}, {"Unit", "StateChangeTimestamp"}, {"Unit", "InactiveEnterTimestamp"},
	{"Service", "MainPID"}, {"Service", "NRestarts"}, {"Service", "Result"}, {"Service", "MemoryCurrent"}, {"Service", "ControlGroup"},
}

// properties asks for each by itself: a service has some 300, and all of them
// together take systemd and the decoder several times as long as these few.
func (h *Host) properties(ctx context.Context, unit string) (map[string]any, error) {
	out := make(map[string]any, len(asked))
	for _, a := range asked {
		p, err := h.bus.GetUnitTypePropertyContext(ctx, unit, a.kind, a.name)
		if err != nil {
			return nil, err
		}
		out[a.name] = p.Value.Value()
	}
	return out, nil
}

func property[T any](p map[string]any, name string) T {
	v, _ := p[name].(T)
	return v
}

// enabled looks for the link that `systemctl enable` makes.
func enabled(unit, unitDir string) bool {
	_, err := os.Lstat(enableLink(unit, unitDir))
	return err == nil
}

func enableLink(unit, unitDir string) string {
	return filepath.Join(unitDir, "multi-user.target.wants", unit)
}

// processVariable reads a variable of a running process; "" if there is none.
func processVariable(pid uint32, name string) string {
	if pid == 0 {
		return ""
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return "" // it ended in the meantime
	}
	for v := range bytes.SplitSeq(text, []byte{0}) {
		if value, ok := strings.CutPrefix(string(v), name+"="); ok {
			return value
		}
	}
	return ""
}

// residentMemory adds up the resident pages of a control group, for hosts whose
// memory controller is not available to systemd.
func residentMemory(group string) uint64 {
	text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", group, "cgroup.procs"))
	if err != nil {
		return 0
	}
	var pages uint64
	for pid := range strings.FieldsSeq(string(text)) {
		statm, err := os.ReadFile("/proc/" + pid + "/statm")
		if f := strings.Fields(string(statm)); err == nil && len(f) > 1 {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			pages += n
		}
	}
	return pages * uint64(os.Getpagesize())
}

// journal returns the last lines that a server and its set-up wrote since a
// point in time. An interrupted apply shows them too.
func journal(ctx context.Context, since time.Time, lines int, units ...string) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	args := []string{"--quiet", "--no-pager", "--output=short-iso", "--no-hostname",
		fmt.Sprintf("--since=@%.6f", float64(since.UnixMicro())/1e6), "--lines=" + strconv.Itoa(lines)}
	for _, u := range units {
		args = append(args, "--unit="+u)
	}
	out, err := exec.CommandContext(ctx, "journalctl", args...).Output()
	if err != nil {
		return []string{"(cannot read the journal: " + err.Error() + ")"}
	}
	var list []string
	for l := range strings.Lines(string(out)) {
		list = append(list, strings.TrimRight(l, "\n"))
	}
	return list
}
