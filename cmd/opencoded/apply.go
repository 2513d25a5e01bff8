package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/plan"
)

// applyOutput is the JSON form of what apply did.
type applyOutput struct {
	Findings  []finding     `json:"findings"`
	Converged bool          `json:"converged"`
	Plan      plan.Plan     `json:"plan"`
	Outcomes  []outcomeJSON `json:"outcomes"`
}

type outcomeJSON struct {
	host.Outcome
	Error   string `json:"error,omitempty"`
	Seconds string `json:"seconds,omitempty"`
}

func (a *app) apply() *cobra.Command {
	var restart bool
	c := &cobra.Command{
		Use: "apply [FILE]", Short: "make this host as the inventory says",
		Long: `Make this host as the inventory says. Everything is validated first; with any
error nothing is touched. Then the plan is printed and carried out: accounts,
directories, files, egress rules, units, and last the servers, each until it
answers. Only what changed is touched; a second apply has nothing to do.

Another opencode at the same path, and another opencoded, restart nothing by
themselves: the plan says which instances run something older, and
--restart-outdated restarts them one at a time, each healthy before the next.`,
		Example: "  sudo opencoded apply /etc/opencode/instances.toml",
		Args:    atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.open(c.Context(), "apply")
			if err != nil {
				return err
			}
			defer h.Close()
			unlock, err := a.lock(c.Context(), "opencoded apply")
			if err != nil {
				return err
			}
			defer unlock()
			s, problems, err := a.survey(c.Context(), h, file(args))
			if err != nil {
				return err
			}
			if restart {
				s.Shape(func(p plan.Plan, _ plan.Observed) plan.Plan { return p.RestartOutdated() })
			}
			return a.carryOut(c.Context(), h, s, problems)
		},
	}
	c.Flags().BoolVar(&restart, "restart-outdated", false, "also restart what runs an older opencode, one at a time")
	return c
}

// lock waits for another opencoded, and says for whom.
func (a *app) lock(ctx context.Context, purpose string) (func(), error) {
	unlock, err := host.Lock(ctx, purpose, func(holder string) {
		fmt.Fprintf(a.err, "waiting for %s\n", holder)
	})
	if err != nil {
		return nil, exit{exitError, err}
	}
	return unlock, nil
}

func (a *app) carryOut(ctx context.Context, h *host.Host, s *host.Survey, problems document.Diagnostics) error {
	shown := s.Plan
	watch := func(host.Event) {}
	if !a.json {
		a.printer().plan(shown, tallies)
		if !shown.Empty() {
			v := newView(a.out, shown)
			watch = v.event
			defer v.close()
		}
	}
	outcomes := h.Apply(ctx, s, watch)
	failed := 0
	for _, o := range outcomes {
		if o.Err != nil {
			failed++
		}
	}
	if a.json {
		a.print(applyOutput{findings(problems), failed == 0, shown, encodable(outcomes)})
	} else {
		a.failures(outcomes)
	}
	if failed == 0 {
		return nil
	}
	err := exit{code: exitPartly, err: errors.New(count(failed, "lane", "lanes") + " did not come through")}
	if a.json {
		err.err = nil
	}
	return err
}

func encodable(outcomes []host.Outcome) []outcomeJSON {
	out := []outcomeJSON{}
	for _, o := range outcomes {
		e := outcomeJSON{Outcome: o}
		if o.Err != nil {
			e.Error = o.Err.Error()
		}
		if o.Took > 0 {
			e.Seconds = fmt.Sprintf("%.1f", o.Took.Seconds())
		}
		out = append(out, e)
	}
	return out
}

// failures prints what did not come through, with the unit's last words.
func (a *app) failures(outcomes []host.Outcome) {
	p := a.printer()
	for _, o := range outcomes {
		if o.Err == nil {
			continue
		}
		name := o.Instance
		if name == "" {
			name = "host"
		}
		fmt.Fprintf(a.err, "%s\n", p.paint(red, fmt.Sprintf("%s: %v", name, o.Err)))
		for _, l := range o.Journal {
			fmt.Fprintf(a.err, "    %s\n", l)
		}
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
