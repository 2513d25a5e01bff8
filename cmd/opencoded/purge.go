package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/host"
)

func (a *app) purge() *cobra.Command {
	var yes bool
	var inventory string
	c := &cobra.Command{
		Use: "purge NAME", Short: "delete what a removed instance left",
		Long: `Delete what an instance left after it was taken out of the inventory: its state
directory, configuration, password and account. The project directory stays.
It asks first; an instance that the inventory still enables is refused.`,
		Example: "  sudo opencoded purge my-project",
		Args:    exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			name := args[0]
			h, err := a.open(c.Context(), "purge")
			if err != nil {
				return err
			}
			defer h.Close()
			unlock, err := a.lock(c.Context(), "opencoded purge "+name)
			if err != nil {
				return err
			}
			defer unlock()
			// Under the lock: whoever had it may have applied an inventory anew.
			if err := a.notWanted(inventory, name); err != nil {
				return err
			}
			r, err := h.Remains(c.Context(), name)
			if err != nil {
				return exit{exitError, err}
			}
			if r.Empty() {
				return exit{exitError, fmt.Errorf("there is nothing left of an instance %q", name)}
			}
			if err := a.confirm(r, yes); err != nil {
				return err
			}
			if err := h.Purge(c.Context(), r); err != nil {
				return exit{exitPartly, err}
			}
			if a.json {
				a.print(struct {
					Purged host.Remains `json:"purged"`
				}{r})
			} else {
				fmt.Fprintf(a.out, "%s is purged.\n", name)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().StringVar(&inventory, "inventory", defaultInventory, "the inventory that must not enable the instance")
	return c
}

// notWanted refuses to purge what the next apply would make again. Without an
// inventory nothing is wanted; one that cannot be read says nothing.
func (a *app) notWanted(path, name string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	inv, problems, err := a.load(path)
	if err != nil {
		return err
	}
	if inv == nil {
		a.report(problems)
		return exit{exitError, fmt.Errorf("cannot tell whether %s still names %q (mend it first, or name another with --inventory)", path, name)}
	}
	if i := inv.Get(name); i != nil && i.Enable {
		return exit{exitError, fmt.Errorf("%s still enables %q (take it out or set enable = false, apply, then purge)", path, name)}
	}
	return nil
}

func (a *app) confirm(r host.Remains, yes bool) error {
	if yes {
		return nil
	}
	if a.json {
		return usage("purge --json needs --yes: it cannot ask")
	}
	fmt.Fprintf(a.out, "This deletes for good:\n")
	for _, p := range r.Paths {
		fmt.Fprintf(a.out, "  %s\n", p)
	}
	for _, o := range r.Openings {
		fmt.Fprintf(a.out, "  %s\n", o)
	}
	if r.Account != "" {
		fmt.Fprintf(a.out, "  the account %s\n", r.Account)
	}
	fmt.Fprintf(a.out, "Type the name of the instance to go on: ")
	line, _ := bufio.NewReader(a.in).ReadString('\n')
	if strings.TrimSpace(line) != r.Instance {
		return exit{exitError, errors.New("not purged")}
	}
	return nil
}
