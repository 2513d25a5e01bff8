package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/opencoded/opencoded/internal/control"
	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/plan"
)

const operators = `
Root may do this, and whoever host.operators in the inventory names, while
opencoded.service runs.`

// operations are start, stop and restart.
func (a *app) operations() []*cobra.Command {
	command := func(what host.Operation, short, long string) *cobra.Command {
		return &cobra.Command{
			Use: string(what) + " NAME...", Short: short, Long: long + operators, Args: atLeast(1),
			RunE: func(c *cobra.Command, names []string) error {
				failed := 0
				for _, name := range names {
					err := a.operate(c.Context(), what, name)
					if err != nil {
						failed++
						fmt.Fprintf(a.err, "%v\n", err)
					}
				}
				if failed > 0 {
					return exit{exitError, fmt.Errorf("%s of %d could not be done", count(failed, "operation", "operations"), len(names))}
				}
				return nil
			},
		}
	}
	return []*cobra.Command{
		command(host.Start, "start servers", `Start the servers of some instances.`),
		command(host.Stop, "stop servers, until somebody starts them", `Stop the servers of some instances. They stay so until somebody starts them, until
the next apply, or the next boot; enable = false in the inventory lasts.`),
		command(host.Restart, "restart servers", `Restart the servers of some instances.`),
	}
}

// operate goes to systemd as root, and asks the daemon otherwise.
func (a *app) operate(ctx context.Context, what host.Operation, name string) error {
	if os.Geteuid() != 0 {
		return a.refusal(control.NewClient(control.Socket).Operate(ctx, string(what), name))
	}
	h, err := a.open(ctx, string(what))
	if err != nil {
		return err
	}
	defer h.Close()
	return h.Operate(ctx, what, name)
}

func (a *app) logs() *cobra.Command {
	var follow bool
	var since string
	var lines int
	c := &cobra.Command{
		Use: "logs NAME", Short: "show what an instance has logged", Long: "Show the journal of an instance, its set-up included." + operators,
		Example: "  opencoded logs web -f\n  opencoded logs web --since \"10 min ago\"",
		Args:    exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			if since != "" && !c.Flags().Changed("lines") {
				lines = 0
			}
			if os.Geteuid() == 0 {
				if err := host.Logs(c.Context(), a.out, args[0], lines, since, follow); err != nil {
					return exit{exitError, err}
				}
				return nil
			}
			return a.refusal(control.NewClient(control.Socket).Logs(c.Context(), a.out, args[0], lines, since, follow))
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is logged from now on")
	c.Flags().StringVar(&since, "since", "", "show all since then, in journalctl's notation")
	c.Flags().IntVarP(&lines, "lines", "n", 100, "how many lines at most")
	return c
}

// access asks the daemon how an instance is reached, or finds out by itself as root where none runs.
func (a *app) access(ctx context.Context, name, inventory string) (control.Access, error) {
	access, err := control.NewClient(control.Socket).Access(ctx, name)
	if err != control.ErrNotRunning || os.Geteuid() != 0 {
		return access, a.refusal(err)
	}
	h, err := a.open(ctx, "access")
	if err != nil {
		return access, err
	}
	defer h.Close()
	inv, problems, err := a.load(inventory)
	if err != nil {
		return access, err
	}
	if inv == nil {
		a.report(problems)
		return access, a.refused(problems)
	}
	i := inv.Get(name)
	if i == nil || !i.Enable {
		return access, exit{exitError, fmt.Errorf("%s has no instance %q", inventory, name)}
	}
	own, err := h.Access(ctx, i, inv.Host.UnitDir)
	if err != nil {
		return access, exit{exitError, err}
	}
	return control.Access(own), nil
}

func inventoryFlag(c *cobra.Command, path *string) {
	c.Flags().StringVar(path, "inventory", defaultInventory, "the inventory, where no opencoded.service runs")
}

func (a *app) attach() *cobra.Command {
	var inventory string
	c := &cobra.Command{
		Use: "attach NAME [-- ARGUMENTS]", Short: "open opencode's terminal on a running server",
		Long: `Run opencode attach against a running server, as yourself. The password goes to it
in the environment, where only you and root can read it.` + operators,
		Example: "  opencoded attach web\n  opencoded attach web -- --continue",
		Args:    atLeast(1),
		RunE: func(c *cobra.Command, args []string) error {
			access, err := a.access(c.Context(), args[0], inventory)
			if err != nil {
				return err
			}
			program := access.Opencode
			if own, err := exec.LookPath("opencode"); err == nil {
				program = own
			}
			argv := append([]string{"opencode", "attach", access.URL, "--dir", access.Directory}, args[1:]...)
			env := append(withoutVariable(os.Environ(), "OPENCODE_SERVER_PASSWORD"), "OPENCODE_SERVER_PASSWORD="+access.Password)
			return exit{exitError, fmt.Errorf("cannot run %s: %w", program, unix.Exec(program, argv, env))}
		},
	}
	inventoryFlag(c, &inventory)
	return c
}

func withoutVariable(env []string, name string) []string {
	var out []string
	for _, v := range env {
		if !strings.HasPrefix(v, name+"=") {
			out = append(out, v)
		}
	}
	return out
}

func (a *app) url() *cobra.Command {
	var inventory string
	c := &cobra.Command{
		Use: "url NAME", Short: "print where a server answers: its web interface, and its API",
		Long: `Print where a server answers. A browser asks for the user opencode and the password,
which ` + "`opencoded password NAME`" + ` prints.` + operators,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			access, err := a.access(c.Context(), args[0], inventory)
			if err != nil {
				return err
			}
			if a.json {
				a.print(map[string]string{"url": access.URL})
			} else {
				fmt.Fprintln(a.out, access.URL)
			}
			return nil
		},
	}
	inventoryFlag(c, &inventory)
	return c
}

func (a *app) password() *cobra.Command {
	var inventory string
	var rotate bool
	c := &cobra.Command{
		Use: "password NAME", Short: "print the password of a server, or replace it",
		Long: `Print the password of a running server. With --rotate it gets another one first, and
restarts: sessions that are attached with the old one end.` + operators,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			if rotate {
				if err := a.rotate(c.Context(), args[0], inventory); err != nil {
					return err
				}
			}
			access, err := a.access(c.Context(), args[0], inventory)
			switch {
			case err != nil:
				return err
			case access.Password == "":
				return exit{exitError, fmt.Errorf("instance %q has no password (auth = false)", args[0])}
			}
			fmt.Fprintln(a.out, access.Password)
			return nil
		},
	}
	c.Flags().BoolVar(&rotate, "rotate", false, "replace it, and restart the server")
	inventoryFlag(c, &inventory)
	return c
}

// rotate has the daemon do it, or applies by itself, as root, where none runs.
func (a *app) rotate(ctx context.Context, name, inventory string) error {
	err := control.NewClient(control.Socket).RotatePassword(ctx, name)
	if err != control.ErrNotRunning || os.Geteuid() != 0 {
		return a.refusal(err)
	}
	h, err := a.open(ctx, "password --rotate")
	if err != nil {
		return err
	}
	defer h.Close()
	unlock, err := a.lock(ctx, "opencoded password --rotate")
	if err != nil {
		return err
	}
	defer unlock()
	if err := host.RotatePassword(name); err != nil {
		return exit{exitError, err}
	}
	s, _, err := a.survey(ctx, h, inventory)
	if err != nil {
		return err
	}
	s.Shape(func(p plan.Plan, _ plan.Observed) plan.Plan { return p.Only(name) })
	for _, o := range h.Apply(ctx, s, func(host.Event) {}) {
		if o.Err != nil {
			a.failures([]host.Outcome{o})
			return exit{exitPartly, fmt.Errorf("%s has another password, and did not come up with it", name)}
		}
	}
	return nil
}
