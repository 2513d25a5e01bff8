package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/host"
)

func (a *app) doctor() *cobra.Command {
	return &cobra.Command{
		Use: "doctor [FILE]", Short: "tell what this host can enforce, and what each instance gives up",
		Long: `Look at what the host can enforce and at every instance: its health and drift,
systemd's rating of its sandbox (0 is nothing exposed, 10 everything) with what
each relaxation of the inventory adds to it, and files that should be protected
and are not. Exits with 3 when there is a problem to mend.`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.open(c.Context(), "doctor")
			if err != nil {
				return err
			}
			defer h.Close()
			a.quiet = true // plan and apply say it
			s, problems, err := a.survey(c.Context(), h, file(args))
			if err != nil {
				return err
			}
			list, err := h.Doctor(c.Context(), s)
			if err != nil {
				return exit{exitError, err}
			}
			if a.json {
				a.print(struct {
					Findings  []finding        `json:"findings"`
					Diagnoses []host.Diagnosis `json:"diagnoses"`
				}{findings(problems), list})
			} else {
				a.diagnoses(list)
			}
			for _, d := range list {
				if d.State == "problem" {
					return exit{code: exitDiffers}
				}
			}
			return nil
		},
	}
}

func (a *app) diagnoses(list []host.Diagnosis) {
	last := "-"
	for _, d := range list {
		if d.Instance != last {
			last = d.Instance
			if last == "" {
				fmt.Fprintln(a.out, "host")
			} else {
				fmt.Fprintln(a.out, last)
			}
		}
		fmt.Fprintf(a.out, "  %-7s  %s", d.State, d.Text)
		if d.Remedy != "" {
			fmt.Fprintf(a.out, " (%s)", d.Remedy)
		}
		fmt.Fprintln(a.out)
	}
}
