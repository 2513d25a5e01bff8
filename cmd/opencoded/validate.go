package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/plan"
)

func (a *app) validate() *cobra.Command {
	var onHost bool
	c := &cobra.Command{
		Use: "validate [FILE]", Short: "check an inventory",
		Long: `Check an inventory and the layers, agents, skills and commands that stand beside
or below it. Without --host this is pure: any file, any user, any machine, and no
look at what else is there. With --host the paths, accounts, binaries and
permissions of this host are checked too, as plan and apply do.`,
		Example: "  opencoded validate instances.toml\n  sudo opencoded validate --host",
		Args:    atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			inv, problems, err := a.load(file(args))
			if err != nil {
				return err
			}
			if inv != nil && onHost {
				more, err := host.Validate(c.Context(), inv)
				if err != nil {
					return exit{exitError, err}
				}
				problems = append(problems, more...)
				problems.Sort()
			}
			if inv != nil && len(problems.Errors()) == 0 {
				problems.AddAll(plan.CheckConfigurations(inv, host.Reader{Within: within(inv, onHost)}))
				problems.Sort()
			}
			a.report(problems)
			return a.verdict(file(args), len(problems.Errors()) == 0, problems)
		},
	}
	c.Flags().BoolVar(&onHost, "host", false, "also check this host")
	return c
}

// within is the directory that a look at an inventory keeps to: what is named
// relative to it is part of it; the rest is this host's.
func within(inv *instance.Inventory, onHost bool) string {
	if onHost {
		return ""
	}
	return filepath.Dir(inv.File)
}

func (a *app) verdict(path string, valid bool, problems document.Diagnostics) error {
	if a.json {
		a.print(struct {
			Valid    bool      `json:"valid"`
			Findings []finding `json:"findings"`
		}{valid, findings(problems)})
	}
	switch {
	case !valid && a.json:
		return exit{exitError, nil}
	case !valid:
		return exit{exitError, fmt.Errorf("%s is not valid: %s", path, count(len(problems.Errors()), "error", "errors"))}
	case !a.json:
		note := ""
		if n := len(problems.Warnings()); n > 0 {
			note = ", with " + count(n, "remark", "remarks")
		}
		fmt.Fprintf(a.out, "%s is valid%s\n", path, note)
	}
	return nil
}
