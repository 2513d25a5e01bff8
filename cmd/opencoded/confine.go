package main

import (
	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/confine"
)

// confine is how units start the programs of an instance.
func (a *app) confine() *cobra.Command {
	return &cobra.Command{
		Use: "confine -- PROGRAM [ARGUMENT…]", Hidden: true, Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return exit{exitError, confine.Exec(args)}
		},
	}
}
