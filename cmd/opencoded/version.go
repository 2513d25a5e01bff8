package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// Set at build time with -ldflags "-X main.version=…".
var (
	version = "dev"
	commit  = "unknown"
	date    = "unknown"
)

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				a.print(map[string]string{"version": version, "commit": commit, "date": date, "go": runtime.Version()})
				return nil
			}
			fmt.Fprintf(a.out, "opencoded %s (commit %s, %s, %s)\n", version, commit, date, runtime.Version())
			return nil
		},
	}
}
