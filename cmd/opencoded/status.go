package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/control"
	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/plan"
)

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use: "status [FILE]", Short: "show how the servers are",
		Long: `Show every instance of the inventory: its state (healthy means that it answers),
process, memory, disk space if that is limited, address, egress policy, blocked packets, and drift: what an
apply would have to change.`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.look(c.Context(), "status", args, func(h *host.Host, s *host.Survey, problems document.Diagnostics) error {
				list, err := h.Status(c.Context(), s)
				if err != nil {
					return exit{exitError, err}
				}
				service := a.service(c.Context())
				if a.json {
					a.print(struct {
						Findings  []finding      `json:"findings"`
						Converged bool           `json:"converged"`
						Instances []host.Status  `json:"instances"`
						Service   *control.State `json:"service,omitempty"`
					}{findings(problems), s.Plan.Empty(), list, service})
					return nil
				}
				a.table(list)
				a.told(service)
				return nil
			})
		},
	}
}

// service is what opencoded.service says of itself; nil where it does not run.
func (a *app) service(ctx context.Context) *control.State {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	state, err := control.NewClient(control.Socket).State(ctx)
	if err != nil {
		return nil
	}
	return &state
}

// told prints what is not as it should be with the service.
func (a *app) told(s *control.State) {
	if s == nil {
		return
	}
	if len(s.Broken) > 0 {
		kept := "running instances stay as they are"
		if !s.Loaded.IsZero() {
			kept = "it keeps that of " + s.Loaded.Local().Format(time.DateTime)
		}
		fmt.Fprintf(a.out, "opencoded.service: cannot use the inventory, %s:\n", kept)
		for _, l := range s.Broken {
			fmt.Fprintf(a.out, "    %s\n", l)
		}
	}
	if s.Problem != "" {
		fmt.Fprintf(a.out, "opencoded.service: tries again, for it could not make the host as the inventory says: %s\n", s.Problem)
	}
	if len(s.Failed) > 0 {
		fmt.Fprintf(a.out, "opencoded.service: did not come through: %s (journalctl -u opencoded)\n", strings.Join(s.Failed, ", "))
	}
	if s.Waiting > 0 {
		fmt.Fprintf(a.out, "opencoded.service: %s wait for `opencoded apply` (auto_apply = false)\n", count(s.Waiting, "change", "changes"))
	}
	if s.Rules != "" {
		fmt.Fprintf(a.out, "opencoded.service: cannot restore the egress rules: %s\n", s.Rules)
	}
}

// look surveys the host for a command that changes nothing.
func (a *app) look(ctx context.Context, purpose string, args []string, tell func(*host.Host, *host.Survey, document.Diagnostics) error) error {
	h, err := a.open(ctx, purpose)
	if err != nil {
		return err
	}
	defer h.Close()
	a.quiet = true // plan and apply say what is wrong with the inventory
	s, problems, err := a.survey(ctx, h, file(args))
	if err != nil {
		a.told(a.service(ctx)) // what is kept meanwhile
		return err
	}
	return tell(h, s, problems)
}

func (a *app) table(list []host.Status) {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "INSTANCE\tSTATE\tSINCE\tPID\tMEMORY\tDISK\tADDRESS\tEGRESS\tBLOCKED\tDRIFT")
	for _, s := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", s.Instance, s.State, since(s.Since), orDash(s.PID),
			mebibytes(s.Memory), space(s), text(s.Address), text(s.Egress), s.Blocked, drift(s.Drift))
	}
	w.Flush()
	for _, s := range list {
		for _, l := range s.Warnings {
			fmt.Fprintf(a.out, "%s: %s\n", s.Instance, l)
		}
		if s.Detail != "" {
			fmt.Fprintf(a.out, "%s: %s\n", s.Instance, s.Detail)
		}
	}
}

func text(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func orDash(n uint32) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// since is how long ago, in the largest unit that says enough.
func since(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

func mebibytes(n uint64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// space is what a limited state directory takes, and may.
func space(s host.Status) string {
	if s.StateMax == 0 {
		return "-"
	}
	return plan.Size(s.StateUsed) + " of " + plan.Size(s.StateMax)
}

func drift(list []string) string {
	switch len(list) {
	case 0:
		return "none"
	case 1:
		return list[0]
	default:
		return fmt.Sprintf("%s and %d more", strings.TrimSpace(list[0]), len(list)-1)
	}
}
