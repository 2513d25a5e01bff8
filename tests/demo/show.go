package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/opencoded/opencoded/tests/agent"
)

// What the example's restricted instance may reach, and an address beyond.
const (
	allowed = "192.0.2.2"
	other   = "198.51.100.2"
)

// show runs inside of the machine.
func show(ctx context.Context) error {
	heading("The inventory")
	for _, step := range []func(context.Context) error{
		inventory, plan, applied, healthy, connections,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func inventory(ctx context.Context) error {
	return run(ctx, `install -D -m 644 `+inside+`/instances.toml /etc/opencode/instances.toml`,
		"cat /etc/opencode/instances.toml")
}

func plan(ctx context.Context) error {
	heading("What would happen (opencoded plan also shows the text of every unit, rule and configuration)")
	return run(ctx, "", "opencoded plan --summary")
}

func applied(ctx context.Context) error {
	heading("Make it so")
	if err := run(ctx, "", "opencoded apply", "opencoded apply", "opencoded status"); err != nil {
		return err
	}
	heading("The rules of the restricted instance, in the kernel")
	return run(ctx, "", "nft list table inet opencode-restricted")
}

func healthy(ctx context.Context) error {
	heading("Each server answers, to those who know its password")
	for _, address := range []string{"127.0.0.1:8787", "127.0.0.1:8788"} {
		c := "curl -s -u opencode:$PASSWORD http://" + address + "/global/health"
		password, err := password(ctx, address)
		if err != nil {
			return err
		}
		out, err := exec.CommandContext(ctx, "sh", "-c", "PASSWORD="+password+"; "+c).Output()
		fmt.Printf("$ %s\n%s\n", c, out)
		if err != nil {
			return err
		}
	}
	return nil
}

// password is read from where root keeps it.
func password(_ context.Context, address string) (string, error) {
	name := map[string]string{"127.0.0.1:8787": "open", "127.0.0.1:8788": "restricted"}[address]
	text, err := os.ReadFile("/var/lib/opencoded/instances/" + name + "/password.env")
	_, value, _ := strings.Cut(strings.TrimSpace(string(text)), "=")
	return value, err
}

// connections tries an allowed and another address from inside of the
// restricted instance.
func connections(ctx context.Context) error {
	heading("From inside of the restricted instance, as its agent: an allowed and another address")
	world, err := makeWorld(ctx)
	if err != nil {
		return err
	}
	defer world()
	secret, err := password(ctx, "127.0.0.1:8788")
	if err != nil {
		return err
	}
	a, err := agent.Enter(ctx, "127.0.0.1:8788", secret)
	if err != nil {
		return err
	}
	for _, address := range []string{allowed, other} {
		c := "curl -sS --max-time 3 http://" + address + ":9000/"
		out, code, err := a.Run(ctx, c)
		if err != nil {
			return err
		}
		fmt.Printf("restricted$ %s\n%s\n", c, out)
		if (code == 0) != (address == allowed) {
			return fmt.Errorf("%s: exit code %d: the egress policy does not hold", address, code)
		}
	}
	fmt.Println("The kernel's word on it:")
	if err := run(ctx, "", "dmesg | grep opencode-restricted-blocked | grep DST="+other+" | tail -n 1", "opencoded status"); err != nil {
		return err
	}
	return nil
}

// makeWorld makes a network namespace that stands for the world beyond the host
// and has a web server on both addresses.
func makeWorld(ctx context.Context) (func(), error) {
	const script = `
ip netns add world
ip link add host0 type veth peer name world0 netns world
for n in 192.0.2 198.51.100; do
	ip addr add $n.1/24 dev host0
	ip -n world addr add $n.2/24 dev world0
done
ip link set host0 up
ip -n world link set lo up
ip -n world link set world0 up`
	if out, err := exec.CommandContext(ctx, "sh", "-ec", script).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot make a network: %w: %s", err, out)
	}
	c := exec.CommandContext(ctx, "ip", "netns", "exec", "world", inside+"/demo", "serve", allowed+":9000", other+":9000")
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err == nil {
		_, err = io.ReadFull(out, make([]byte, len("ready\n")))
	}
	return func() { c.Process.Kill(); c.Wait() }, err
}

// serve answers HTTP with a greeting until it is killed.
func serve(addresses []string) error {
	failed := make(chan error)
	for _, address := range addresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		go func() {
			failed <- http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, "hello from %s", address)
			}))
		}()
	}
	fmt.Println("ready")
	return <-failed
}

// run does a silent command, then shows others with what they print.
func run(ctx context.Context, silent string, shown ...string) error {
	if silent != "" {
		if out, err := exec.CommandContext(ctx, "sh", "-ec", silent).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", silent, err, out)
		}
	}
	for _, s := range shown {
		fmt.Printf("$ %s\n", s)
		c := exec.CommandContext(ctx, "sh", "-ec", s)
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		c.WaitDelay = time.Second
		if err := c.Run(); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}
