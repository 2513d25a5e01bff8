package netpolicy

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencoded/opencoded/internal/destination"
	"github.com/opencoded/opencoded/tests/tier"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite the golden files under testdata")

// needKernel ends the test where no rules can be loaded into a fresh network namespace.
func needKernel(t testing.TB) {
	t.Helper()
	tier.Need(t, "kernel", tier.Root())
	tier.Need(t, "kernel", tier.Nftables())
	_, err := exec.LookPath("ip")
	tier.Need(t, "kernel", err)
}

// golden compares with testdata/name, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (run the test with -update)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", file, got, want)
	}
}

// netns is a fresh network namespace with loopback up. Its thread never returns to Go's pool: it ends with it.
type netns struct {
	t      testing.TB
	calls  chan func()
	fd     int
	kernel *Kernel
}

func newNetNS(t testing.TB) *netns {
	t.Helper()
	needKernel(t)
	n := &netns{t: t, calls: make(chan func()), fd: -1}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.fd, err = unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		ready <- err
		for call := range n.calls {
			call()
		}
	}()
	tier.Need(t, "kernel", <-ready)
	t.Cleanup(func() { close(n.calls); unix.Close(n.fd) })
	n.run("ip", "link", "set", "lo", "up")
	kernel, err := OpenNetNS(t.Context(), n.fd)
	tier.Need(t, "kernel", err)
	n.kernel = kernel
	return n
}

// do runs f on the namespace's thread.
func (n *netns) do(f func()) {
	done := make(chan struct{})
	n.calls <- func() { defer close(done); f() }
	<-done
}

// as runs f on the namespace's thread with the file system UID that new sockets get (meta skuid).
func (n *netns) as(uid int, f func()) {
	n.do(func() {
		unix.SetfsuidRetUid(uid)
		defer unix.SetfsuidRetUid(0)
		f()
	})
}

func (n *netns) command(stdin string, argv ...string) (out string, err error) {
	n.do(func() {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Stdin = strings.NewReader(stdin)
		b, e := cmd.CombinedOutput()
		out, err = string(b), e
	})
	return out, err
}

func (n *netns) run(argv ...string) string {
	n.t.Helper()
	out, err := n.command("", argv...)
	if err != nil {
		n.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return out
}

// nft runs commands as `nft -f -` does.
func (n *netns) nft(script string) {
	n.t.Helper()
	if out, err := n.command(script, "nft", "-f", "-"); err != nil {
		n.t.Fatalf("nft -f -: %v\n%s\n%s", err, out, script)
	}
}

func (n *netns) ensure(tables ...Table) {
	n.t.Helper()
	if _, err := n.kernel.Ensure(n.t.Context(), tables...); err != nil {
		n.t.Fatal(err)
	}
}

func (n *netns) diff(want Table) string {
	n.t.Helper()
	diff, err := n.kernel.Diff(n.t.Context(), want)
	if err != nil {
		n.t.Fatal(err)
	}
	return diff
}

func (n *netns) blocked(instance string) Counter {
	n.t.Helper()
	all, err := n.kernel.Counts(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return all[instance].Blocked
}

// dial connects as a user; the address is literal, so that the socket is made on the namespace's thread.
func (n *netns) dial(uid int, network, address string, timeout time.Duration) (c net.Conn, err error) {
	n.as(uid, func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		c, err = (&net.Dialer{}).DialContext(ctx, network, address)
	})
	return c, err
}

func (n *netns) listen(uid int, network, address string) net.Listener {
	n.t.Helper()
	var l net.Listener
	var err error
	n.as(uid, func() { l, err = net.Listen(network, address) })
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { l.Close() })
	return l
}

func allow(texts ...string) []destination.Destination {
	var out []destination.Destination
	for _, text := range texts {
		d, _, err := destination.Parse(text)
		if err != nil {
			panic(err)
		}
		out = append(out, d)
	}
	return out
}

// must unwraps Egress and Guard.
func must(table Table, err error) Table {
	if err != nil {
		panic(err)
	}
	return table
}
