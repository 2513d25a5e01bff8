package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/control"
	"github.com/opencoded/opencoded/internal/daemon"
)

func (a *app) daemon() *cobra.Command {
	return &cobra.Command{
		Use: "run [FILE]", Short: "keep this host as the inventory says, as a service",
		Long: `Make this host as the inventory says, and keep it so: opencoded.service runs this.

Changes of the inventory and of what it names are applied (unless it says
auto_apply = false). A broken inventory changes nothing: the last good one is kept,
and said so. What others change of files, units, accounts and egress rules is put
back and logged; egress rules at once, and where a table is missing the isolated
instances are cut off first. Socket directories that instances are allowed, and
that appear or are replaced, are bound into them. A server that no longer answers
is restarted. What somebody has stopped stays so.

Metrics (Prometheus): ` + daemon.MetricsSocket + `.`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			if os.Geteuid() != 0 {
				return exit{exitError, errors.New("run must be run as root (systemctl enable --now opencoded)")}
			}
			path, err := filepath.Abs(file(args))
			if err == nil {
				err = daemon.Run(c.Context(), daemon.Options{Inventory: path, Version: version, Log: a.log()})
			}
			if err != nil {
				return exit{exitError, fmt.Errorf("cannot keep the host: %w", err)}
			}
			return nil
		},
	}
}

func (a *app) reload() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "have the daemon read the inventory again, and wait until the host is as it says",
		Long: `Have opencoded.service read the inventory again, and wait until the host is as it
says. With a broken inventory it keeps the one before; the errors are printed, and
the exit code is 1. ` + "`systemctl reload opencoded`" + ` does the same.`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.refusal(control.NewClient(control.Socket).Reload(c.Context()))
		},
	}
}

// refusal prints what an answer of the daemon has to say besides its error.
func (a *app) refusal(err error) error {
	if err == nil {
		return nil
	}
	var refused *control.Refusal
	if errors.As(err, &refused) {
		for _, l := range refused.Lines {
			fmt.Fprintln(a.err, l)
		}
	}
	if errors.Is(err, control.ErrNotRunning) {
		err = fmt.Errorf("%w (systemctl enable --now opencoded)", err)
	}
	return exit{exitError, err}
}
