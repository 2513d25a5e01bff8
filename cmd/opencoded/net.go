package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/host"
)

func (a *app) net() *cobra.Command {
	c := &cobra.Command{
		Use: "net", Short: "egress rules",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %q (see opencoded net --help)", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(&cobra.Command{
		Use: "ensure NAME", Short: "load the egress rules of an instance if they are not in the kernel",
		Long: `Load the guard table and the egress rules of an instance, from the copy that the
last apply left, if the kernel does not hold exactly them. Every unit runs it
before anything else, so that an instance without its rules does not start.`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			loaded, err := host.EnsureRules(c.Context(), args[0])
			if errors.Is(err, host.ErrNotRoot) {
				err = fmt.Errorf("net ensure %w (use sudo; `opencoded validate FILE` works without)", err)
			}
			if err != nil {
				return exit{exitError, err}
			}
			switch {
			case a.json:
				a.print(struct {
					Loaded []string `json:"loaded"`
				}{append([]string{}, loaded...)})
			case len(loaded) > 0:
				fmt.Fprintf(a.out, "loaded inet %s\n", strings.Join(loaded, ", inet "))
			}
			return nil
		},
	})
	return c
}
