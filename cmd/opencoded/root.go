package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/host"
)

// Exit codes, the same for every command.
const (
	exitOK      = 0
	exitError   = 1 // before anything was touched
	exitUsage   = 2
	exitDiffers = 3 // plan --exit-code found something to do, net show other rules, doctor a problem
	exitPartly  = 4 // something was touched, and not all of it came up
)

// exit is an error with a code of its own. An empty message says that all was
// said already.
type exit struct {
	code int
	err  error
}

func (e exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

// DefaultInventory is read when a command names no file.
const defaultInventory = "/etc/opencode/instances.toml"

// app is what all commands share.
type app struct {
	out, err io.Writer
	in       io.Reader
	json     bool
	quiet    bool // findings that are no errors go without saying
}

func run(args []string, out, errOut io.Writer, in io.Reader) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{out: out, err: errOut, in: in}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitError
	var e exit
	if errors.As(err, &e) {
		code = e.code
	}
	if err.Error() != "" {
		fmt.Fprintf(errOut, "opencoded: %v\n", err)
	}
	return code
}

const rootHelp = `opencoded turns one reviewed file into isolated opencode servers: each with its
own user, state, sandbox, configuration and egress rules, run by systemd.

  opencoded validate instances.toml    check the file, on any machine
  opencoded plan                       what would change on this host
  opencoded apply                      change it
  opencoded status                     how the servers are
  opencoded blocked                    what they were kept from reaching

Commands that name no file read ` + defaultInventory + `.
Exit codes: 0 done, 1 an error before anything was touched, 2 wrong usage,
3 plan --exit-code or net show found a difference, 4 partly applied.`

func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use: "opencoded", Short: "many isolated opencode servers on one host", Long: rootHelp,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %q (see opencoded --help)", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.Version = version
	c.SetVersionTemplate("opencoded {{.Version}}\n")
	c.CompletionOptions.HiddenDefaultCmd = true
	c.SetHelpCommand(help(c))
	c.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%v (see %s --help)", err, c.CommandPath())
	})
	c.AddCommand(a.validate(), a.plan(), a.apply(), a.status(), a.doctor(), a.blocked(), a.purge(), a.net(), a.confine(), a.daemon(), a.reload(),
		a.logs(), a.attach(), a.url(), a.password(), a.config(), a.wrap(), a.version())
	c.AddCommand(a.operations()...)
	return c
}

func usage(format string, args ...any) error {
	return exit{exitUsage, fmt.Errorf(format, args...)}
}

// atMost and exactly are argument checks whose failure is a usage error.
func atMost(n int) cobra.PositionalArgs { return checked(cobra.MaximumNArgs(n)) }

func atLeast(n int) cobra.PositionalArgs { return checked(cobra.MinimumNArgs(n)) }

func exactly(n int) cobra.PositionalArgs { return checked(cobra.ExactArgs(n)) }

func checked(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usage("%v (see %s --help)", err, c.CommandPath())
		}
		return nil
	}
}

// open connects to the host, or says what is missing and what works without.
func (a *app) open(ctx context.Context, command string) (*host.Host, error) {
	h, err := host.Open(ctx)
	if errors.Is(err, host.ErrNotRoot) {
		return nil, exit{exitError, fmt.Errorf("%s %w (use sudo; `opencoded validate FILE` works without)", command, err)}
	}
	if err != nil {
		return nil, exit{exitError, err}
	}
	return h, nil
}

func file(args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	return defaultInventory
}

// help is cobra's own help command, but for a topic that does not exist, which
// is wrong usage here.
func help(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "explain a command",
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usage("unknown command %q (see opencoded --help)", strings.Join(args, " "))
			}
			c.InitDefaultHelpFlag()
			c.InitDefaultVersionFlag()
			return c.Help()
		},
	}
}
