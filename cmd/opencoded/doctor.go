package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/document"
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
			return a.look(c.Context(), "doctor", args, func(h *host.Host, s *host.Survey, problems document.Diagnostics) error {
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
				if slices.ContainsFunc(list, func(d host.Diagnosis) bool { return d.State == "problem" }) {
					return exit{code: exitDiffers}
				}
				return nil
			})
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
