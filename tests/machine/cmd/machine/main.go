// Command machine boots a throwaway systemd machine over this host and runs a shell or a command in it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/opencoded/opencoded/tests/machine"
)

const usage = `usage: machine [-name NAME] [-root DIR] [-bind SRC:DST]... [-v] [-- COMMAND [ARG]...]

Boots a throwaway systemd machine over this host: real systemd, D-Bus, journald and nftables, the host's files
underneath, and nothing of the host changed. Runs COMMAND in it, or a shell, and discards the machine afterwards.
Needs root. The exit code is the command's; 125 when the machine could not be booted.

  -name NAME     host name of the machine (default "machine")
  -root DIR      start from the files of the system installed in DIR, with its systemd, not from the host's
  -bind SRC:DST  show the host's file or directory SRC read-only at DST; may be given more than once
  -v             show what the machine's first process prints

Example: try a build of opencoded in a machine
  go run ./tests/machine/cmd/machine -bind bin/opencoded:/usr/local/bin/opencoded -- opencoded version
`

const exitNoMachine = 125 // as container engines have it: a command's own codes stay free

type binds []machine.Bind

func (b *binds) String() string { return "" }

func (b *binds) Set(value string) error {
	source, target, ok := strings.Cut(value, ":")
	if !ok || source == "" || target == "" {
		return errors.New("not of the form SRC:DST")
	}
	*b = append(*b, machine.Bind{Source: source, Target: target})
	return nil
}

func main() {
	machine.Init()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	var bound binds
	flags := flag.NewFlagSet("machine", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	name := flags.String("name", "machine", "")
	root := flags.String("root", "", "")
	verbose := flags.Bool("v", false, "")
	flags.Var(&bound, "bind", "")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Print(usage)
		return 0
	} else if err != nil {
		fmt.Fprintf(os.Stderr, "machine: %v\n\n%s", err, usage)
		return 2
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	opts := machine.Options{Name: *name, Root: *root, Binds: bound}
	if *verbose {
		opts.Log = os.Stderr
	}
	began := time.Now()
	m, err := machine.Boot(ctx, opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, "machine:", err)
		return exitNoMachine
	}
	fmt.Fprintf(os.Stderr, "machine: up in %.1f s\n", time.Since(began).Seconds())

	code := execute(ctx, m, flags.Args())
	if err := m.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "machine:", err)
	}
	return code
}

// execute runs the command, or a shell, on our own terminal and returns its exit code.
func execute(ctx context.Context, m *machine.Machine, argv []string) int {
	if len(argv) == 0 {
		fmt.Fprintln(os.Stderr, `machine: a shell in it follows; "exit" discards the machine`)
		argv = []string{"bash", "-i"}
	}
	// Ctrl-C is meant for the command, which shares our terminal; it decides what to make of it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGQUIT)
	cmd := m.Command(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal())
		}
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, "machine:", err)
		return exitNoMachine
	}
}
