package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencoded/opencoded/internal/confine"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/internal/sandbox"
)

// Diagnosis is one thing that was looked at.
type Diagnosis struct {
	Instance string `json:"instance,omitempty"` // "" is the host
	State    string `json:"state"`              // ok, note, problem
	Text     string `json:"text"`
	Remedy   string `json:"remedy,omitempty"`
}

type doctor struct {
	h   *Host
	s   *Survey
	out []Diagnosis
}

func (d *doctor) say(instance, state, remedy, format string, args ...any) {
	d.out = append(d.out, Diagnosis{Instance: instance, State: state, Text: fmt.Sprintf(format, args...), Remedy: remedy})
}

// Doctor looks at what the host can enforce, and at how much of it each enabled
// instance gets. A problem is something that an operator should mend; a note is a
// price that somebody decided to pay, or a limit of this host.
func (h *Host) Doctor(ctx context.Context, s *Survey) ([]Diagnosis, error) {
	d := &doctor{h: h, s: s}
	d.host(ctx)
	states, err := h.Status(ctx, s)
	if err != nil {
		return nil, err
	}
	for n, i := range s.Inventory.Instances {
		t := s.Desired.Target(i.Name)
		if t == nil {
			continue
		}
		d.health(states[n])
		if err := d.exposure(ctx, t); err != nil {
			return nil, err
		}
		d.unprotected(t, states[n].PID)
		d.sockets(t, states[n].PID)
	}
	return d.out, nil
}

func (d *doctor) host(ctx context.Context) {
	d.say("", "ok", "", "systemd %d", d.s.Facts.Sandbox.SystemdVersion)
	switch abi := confine.ABI(); {
	case abi >= confine.ScopingABI:
		d.say("", "ok", "", "Landlock %d: abstract Unix sockets and signals end at the instance", abi)
	case abi > 0:
		d.say("", "note", "Linux 6.12 and later can", "Landlock %d cannot keep instances from abstract Unix sockets of the host", abi)
	default:
		d.say("", "note", "Linux 6.12 and later can, with landlock among the LSMs",
			"no Landlock: nothing keeps instances from abstract Unix sockets of the host")
	}
	d.limits()
	if len(d.s.Inventory.Enabled()) == 0 {
		return
	}
	if d.h.keeperRuns(ctx) {
		d.say("", "ok", "", "opencoded.service puts rules back that something else takes away")
	} else {
		d.say("", "note", "systemctl enable --now opencoded", "opencoded.service does not run: nothing puts rules back after a flush of nftables")
	}
}

// limits hold only where control groups have the controller.
func (d *doctor) limits() {
	text, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers") // absent where control groups are not version 2
	for _, c := range []struct {
		name string
		used func(instance.Resources) bool
	}{
		{"memory", func(r instance.Resources) bool { return r.MemoryMax+r.MemoryHigh != "" }},
		{"cpu", func(r instance.Resources) bool { return r.CPUQuota != "" }},
		{"pids", func(instance.Resources) bool { return false }}, // by default there is one
	} {
		if slices.Contains(strings.Fields(string(text)), c.name) {
			continue
		}
		state := "note"
		if slices.ContainsFunc(d.s.Inventory.Enabled(), func(i *instance.Instance) bool { return c.used(i.Resources) }) {
			state = "problem"
		}
		d.say("", state, "boot with control groups of version 2", "no %s controller in the control groups: limits of that kind do not hold", c.name)
	}
}

func (d *doctor) health(s Status) {
	state, text := "ok", s.State
	if s.State != "healthy" {
		state = "problem"
	}
	if s.Detail != "" {
		text += ": " + s.Detail
	}
	d.say(s.Instance, state, "", "%s", text)
	for _, w := range s.Warnings {
		d.say(s.Instance, "note", "", "%s", w)
	}
	if len(s.Drift) > 0 {
		d.say(s.Instance, "problem", "opencoded apply", "differs from the inventory: %s", strings.Join(s.Drift, ", "))
	}
}

// exposure is systemd's rating of the server's unit, and what each relaxation of
// the inventory adds to it.
func (d *doctor) exposure(ctx context.Context, t *plan.Target) error {
	name, text := t.Instance.ServiceName(), t.Units[len(t.Units)-1].Content
	rating, err := exposure(ctx, name, text)
	if errors.Is(err, exec.ErrNotFound) {
		d.say(t.Instance.Name, "note", "install systemd-analyze", "systemd's rating of the sandbox is unknown")
		return nil
	}
	if err != nil {
		return err
	}
	state := "ok"
	var costs []string
	for _, r := range relaxations(t.Instance, text) {
		without, err := exposure(ctx, name, r.without)
		if err != nil {
			return err
		}
		if cost := rating - without; cost > 0.05 {
			costs = append(costs, fmt.Sprintf("%s adds %.1f", r.key, cost))
			state = "note"
		}
	}
	costs = append([]string{fmt.Sprintf("exposure %.1f of 10", rating)}, costs...)
	d.say(t.Instance.Name, state, "", "%s", strings.Join(costs, ", "))
	return nil
}

type relaxation struct{ key, without string }

// relaxations are the keys of the inventory that may weaken a unit, each with what
// the unit would be without it.
func relaxations(i *instance.Instance, text string) []relaxation {
	var out []relaxation
	for _, d := range i.Unit {
		line := d.Key + "=" + d.Value + "\n"
		if n := strings.LastIndex(text, line); n >= 0 { // raw directives come last
			out = append(out, relaxation{"unit." + d.Section + "." + d.Key, text[:n] + text[n+len(line):]})
		}
	}
	if i.Sandbox.AllowNamespaces {
		out = append(out, relaxation{"sandbox.allow_namespaces", sandbox.WithoutNamespaces(text)})
	}
	return out
}

// exposure has systemd rate a unit, from 0 (nothing is exposed) to 10.
func exposure(ctx context.Context, name, text string) (float64, error) {
	dir, err := os.MkdirTemp("", "opencoded-doctor-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, "systemd-analyze", "security", "--offline=true", "--no-pager", path)
	cmd.Env = append(os.Environ(), "SYSTEMD_COLORS=0", "LC_ALL=C.UTF-8")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("cannot rate %s: systemd-analyze: %w: %s", name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	_, after, found := strings.Cut(string(out), "Overall exposure level for "+name+": ")
	words := strings.Fields(after)
	if !found || len(words) == 0 {
		return 0, fmt.Errorf("cannot rate %s: systemd-analyze names no exposure level", name)
	}
	return strconv.ParseFloat(words[0], 64)
}

// unprotected names what should be read-only for the agent and was not there when
// the server started.
func (d *doctor) unprotected(t *plan.Target, pid uint32) {
	mounted, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if pid == 0 || err != nil {
		return // nothing runs that could write
	}
	for _, p := range sandbox.Protected(t.Instance, d.s.Facts.Repository[t.Instance.Name]) {
		info, err := os.Lstat(p)
		if err != nil || info.Mode()&os.ModeSymlink != 0 {
			continue
		}
		point := " " + strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(p) + " "
		if !bytes.Contains(mounted, []byte(point)) {
			d.say(t.Instance.Name, "problem", "look at it, then: systemctl restart "+t.Instance.ServiceName(),
				"%s has appeared since the server started: the agent can write it until the next start", p)
		}
	}
}

// sockets names allowed sockets that the running server does not see.
func (d *doctor) sockets(t *plan.Target, pid uint32) {
	for _, p := range sandbox.BoundSockets(t.Instance) {
		if pid != 0 && staleSocket(pid, p) {
			d.say(t.Instance.Name, "problem", "systemctl enable --now opencoded, which sees to it",
				"%s is not the one that was there when the server started: the instance does not see it", p)
		}
	}
}
