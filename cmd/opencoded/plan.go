package main

import (
	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/plan"
)

// planOutput is the JSON form of a plan.
type planOutput struct {
	Findings  []finding `json:"findings"`
	Converged bool      `json:"converged"`
	Plan      plan.Plan `json:"plan"`
}

func (a *app) plan() *cobra.Command {
	var exitCode, summary bool
	c := &cobra.Command{
		Use: "plan [FILE]", Short: "show what apply would do",
		Long: `Show what apply would do to this host, and change nothing: accounts, directories,
the text of units and configurations as a diff, egress rules as nft would print
them, and which servers restart and why. Secrets are never shown.`,
		Example: "  sudo opencoded plan\n  sudo opencoded plan --exit-code instances.toml",
		Args:    atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.open(c.Context(), "plan")
			if err != nil {
				return err
			}
			defer h.Close()
			s, problems, err := a.survey(c.Context(), h, file(args))
			if err != nil {
				return err
			}
			if a.json {
				a.print(planOutput{findings(problems), s.Plan.Empty(), s.Plan})
			} else {
				a.printer().plan(s.Plan, detail(summary))
			}
			if exitCode && !s.Plan.Empty() {
				return exit{exitDiffers, nil}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&summary, "summary", false, "show the steps without the text that changes")
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 3 if there is something to do")
	return c
}

func detail(summary bool) level {
	if summary {
		return steps
	}
	return diffs
}
