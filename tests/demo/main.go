// Command demo shows opencoded at work in a throwaway machine over this host:
// two real opencode servers, one of them with restricted egress. `make demo`
// builds and runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/opencode"
)

// inside is where the machine has this program and what it shows.
const inside = "/usr/local/lib/opencoded-demo"

func main() {
	machine.Init()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	opencoded := flag.String("opencoded", "bin/opencoded", "the binary to show")
	inventory := flag.String("inventory", "examples/two-instances.toml", "the inventory to apply")
	flag.Parse()
	var err error
	switch flag.Arg(0) {
	case "":
		err = boot(ctx, *opencoded, *inventory)
	case "show":
		err = show(ctx)
	case "serve":
		err = serve(flag.Args()[1:])
	default:
		err = fmt.Errorf("unknown command %q", flag.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// boot makes the machine and shows everything in it.
func boot(ctx context.Context, opencoded, inventory string) error {
	began := time.Now()
	program, err := opencode.Binary()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var binds []machine.Bind
	for source, target := range map[string]string{
		opencoded: "/usr/local/bin/opencoded", program: "/usr/local/bin/opencode",
		self: inside + "/demo", inventory: inside + "/instances.toml",
	} {
		absolute, err := filepath.Abs(source)
		if err != nil {
			return err
		}
		binds = append(binds, machine.Bind{Source: absolute, Target: target})
	}
	heading("A throwaway machine over this host: systemd, D-Bus, nftables; nothing here is changed")
	m, err := machine.Boot(ctx, machine.Options{Name: "demo", Binds: binds})
	if err != nil {
		return err
	}
	defer m.Close()
	fmt.Printf("up after %.1f s\n", time.Since(began).Seconds())
	c := m.Command(ctx, inside+"/demo", "show")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("in the machine: %w", err)
	}
	if err := m.Close(); err != nil {
		return err
	}
	fmt.Printf("\nThe machine is gone again; all of it took %.0f s.\n%s", time.Since(began).Seconds(), forReal)
	return nil
}

const forReal = `
== For real, on this host
  make install                                  # opencoded to /usr/local/bin
  sudo npm install -g opencode-ai               # opencode, where root finds it
  sudo install -Dm644 examples/two-instances.toml /etc/opencode/instances.toml
  sudoedit /etc/opencode/instances.toml         # your directories, ports, networks
  sudo opencoded plan                           # what would happen
  sudo opencoded apply                          # make it so
`

func heading(text string) { fmt.Printf("\n== %s\n", text) }
