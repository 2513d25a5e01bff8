package host

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/internal/sandbox"
)

// Status is what there is to know of one instance at a glance.
type Status struct {
	Instance string    `json:"instance"`
	State    string    `json:"state"` // healthy, or what is wrong; disabled, leftover
	Since    time.Time `json:"since,omitzero"`
	PID      uint32    `json:"pid,omitempty"`
	Memory   uint64    `json:"memory_bytes,omitempty"`
	Address  string    `json:"address,omitempty"`

	StateUsed uint64 `json:"state_bytes,omitempty"` // of the state directory, where it is limited
	StateMax  uint64 `json:"state_max_bytes,omitempty"`

	Egress   string   `json:"egress,omitempty"` // open, restricted, reported
	Blocked  uint64   `json:"blocked_packets"`
	Reported uint64   `json:"reported_packets,omitempty"` // let pass by network_isolation.mode = "report"
	Drift    []string `json:"drift,omitempty"`            // what an apply would do
	Version  string   `json:"opencode_version,omitempty"`
	Detail   string   `json:"detail,omitempty"` // why it is not healthy
	Warnings []string `json:"warnings,omitempty"`
}

// Status reports every instance of a survey, disabled ones and leftovers too,
// in the order of the inventory.
func (h *Host) Status(ctx context.Context, s *Survey) ([]Status, error) {
	out := make([]Status, len(s.Inventory.Instances))
	errs := make([]error, len(out))
	var wg sync.WaitGroup
	for n, i := range s.Inventory.Instances {
		out[n] = Status{Instance: i.Name, Address: i.Listen.String(), State: "disabled"}
		if t := s.Desired.Target(i.Name); t != nil {
			wg.Go(func() { errs[n] = h.status(ctx, s, t, &out[n]) })
		}
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	for _, l := range s.Observed.Leftovers {
		if s.Inventory.Get(l.Name) == nil {
			out = append(out, Status{Instance: l.Name, State: "leftover", Drift: drift(s.Plan.Lane(l.Name))})
		}
	}
	return out, nil
}

func (h *Host) status(ctx context.Context, s *Survey, t *plan.Target, out *Status) error {
	i := t.Instance
	u, err := h.Unit(ctx, i.ServiceName(), s.Inventory.Host.UnitDir)
	if err != nil {
		return err
	}
	out.State, out.PID, out.Memory = u.Active, u.MainPID, u.Memory
	if u.Since.Unix() > 0 {
		out.Since = u.Since
	}
	counts := s.Observed.Counts[i.Name]
	out.Blocked, out.Reported = counts.Blocked.Packets, counts.Reported.Packets
	lane := s.Plan.Lane(i.Name)
	out.Drift = drift(lane)
	if lane != nil && len(lane.Outdated) > 0 {
		out.Warnings = append(out.Warnings, "restart to run "+strings.Join(lane.Outdated, ", ")+" (opencoded apply --restart-outdated)")
	}
	if err := out.used(t.Quota); err != nil {
		return err
	}
	out.Egress = "open"
	switch {
	case i.Network.Enforced():
		out.Egress = "restricted"
		if !sandbox.SystemdFilters(i) {
			warning := "listens beyond loopback: egress is restricted by nftables alone, systemd cannot stand in for it"
			if !h.keeperRuns(ctx) {
				warning += ", and nothing puts its rules back after a flush (run: systemctl enable --now opencoded)"
			}
			out.Warnings = append(out.Warnings, warning)
		}
	case i.Network.Enable:
		out.Egress = "reported"
		out.Warnings = append(out.Warnings, fmt.Sprintf("network_isolation.mode is \"report\": nothing is blocked; %d packets would have been", out.Reported))
	}
	switch {
	case u.Active == "active":
		health, err := probeUnit(ctx, u, i.Listen)
		out.State, out.Version = "healthy", health.Version
		if err != nil {
			out.State, out.Detail = "unhealthy", err.Error()
		}
	case u.Sub == "auto-restart":
		out.State = "restarting"
	}
	if out.State == "failed" || out.State == "restarting" {
		out.Detail = u.Result
		if out.State == "failed" && u.Restarts > 0 {
			out.Detail += fmt.Sprintf(", given up after %d restarts (systemctl reset-failed %s, or apply, once it is mended)", u.Restarts, i.ServiceName())
		}
	}
	return nil
}

// keeperRuns reports whether opencoded.service is running.
func (h *Host) keeperRuns(ctx context.Context) bool {
	p, err := h.bus.GetUnitTypePropertyContext(ctx, "opencoded.service", "Unit", "ActiveState")
	return err == nil && p.Value.Value() == "active"
}

func drift(l *plan.Lane) []string {
	var out []string
	if l == nil {
		return nil
	}
	for _, step := range l.Steps {
		out = append(out, string(step.Verb)+" "+string(step.Kind)+" "+step.Name)
	}
	return out
}
