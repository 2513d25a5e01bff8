package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/opencoded/opencoded/tests/managed"
	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/vm/guest"
)

// cuts of the power, each in another third of the time that an apply takes. Each costs a boot, which is most of what
// the tier takes, so they are few, at other moments in every run; tests/faults kills an apply many times.
const cuts = 3

// Between these inventories every cut changes the host: gamma comes and goes, beta gets and loses its isolation
// and is restarted, and alpha has its rules throughout.
var turns = [2]string{
	booting + `
environment.TURN = "one"
`,
	booting + `
environment.TURN = "two"
network_isolation.enable = true
[instances.gamma]
directory = "/srv/gamma"
listen.port = 8703
network_isolation.enable = true
`,
}

// beforeCut is where the host's state before a cut is kept, in the guest.
const beforeCut = "/var/tmp/before-cut"

// TestBoots is one disk that boots several times, with a server that stands in for opencode.
func TestBoots(t *testing.T) {
	disk, g := boot(t)
	if !inGuest(t, g, "applied", applied) {
		return
	}
	if g != nil {
		g = g.Reboot(t)
	}
	if !inGuest(t, g, "rebooted", rebooted) || !inGuest(t, g, "timed", func(t *testing.T) { before(t, 0) }) {
		return
	}
	var p power
	if g != nil {
		p.first(t, g)
	}
	for n := range cuts {
		if !inGuest(t, g, fmt.Sprintf("before-%d", n), func(t *testing.T) { before(t, n+1) }) {
			return
		}
		if g != nil {
			p.cut(t, g, n)
			g = disk.Boot(t)
		}
		if !inGuest(t, g, fmt.Sprintf("after-%d", n), after) {
			return
		}
	}
	if g != nil && p.late == cuts {
		t.Errorf("each of %d cuts came after the end of apply, which took %s the first time", cuts, p.full)
	}
}

// before notes how the host is, and gives it the inventory of the next turn.
func before(t *testing.T, turn int) {
	text, err := json.Marshal(managed.Files(t))
	if err != nil {
		t.Fatal(err)
	}
	operator.Write(t, beforeCut, string(text), 0o600)
	operator.Write(t, operator.Inventory, turns[turn%2], 0o644)
	operator.Must(t, "sync")
}

// after: it boots, alpha runs behind its rules, no file is torn, and the next apply does what was left to do.
func after(t *testing.T) {
	t.Logf("failed units: %q", operator.Must(t, "systemctl", "list-units", "--failed", "--plain", "--no-legend"))
	operator.Same(t, "state of alpha", operator.Must(t, "systemctl", "is-active", "opencode-alpha"), "active")
	operator.Must(t, "nft", "list", "table", "inet", "opencode-alpha")
	var before map[string]string
	if err := json.Unmarshal([]byte(operator.Read(t, beforeCut)), &before); err != nil {
		t.Fatal(err)
	}
	cut := managed.Files(t)
	managed.Whole(t, cut)
	t.Logf("plan: %s", operator.Must(t, "opencoded", "plan", "--summary"))
	if r := operator.Command(t, "opencoded", "apply"); r.Code != 0 {
		t.Fatalf("the apply after the cut: %v", r)
	}
	operator.Same(t, "exit code of plan", operator.Command(t, "opencoded", "plan", "--exit-code").Code, 0)
	operator.NothingToDo(t)
	now := managed.Files(t)
	managed.Whole(t, now)
	managed.OldOrNew(t, before, cut, now)
	operator.Same(t, "errors of the file system", operator.Sh(t, "journalctl -k -b -o cat --no-pager | grep 'EXT4-fs.*error' || true"), "")
}

// power is what goes off. Only when it does is left to chance and time.
type power struct {
	random *rand.Rand
	full   time.Duration // what an apply takes
	late   int           // how many cuts came after its end
}

// first applies a turn to its end, to learn how long that is.
func (p *power) first(t *testing.T, g *guest.Guest) {
	t.Helper()
	p.random = seeded(t)
	began := time.Now()
	if out, err := apply(t, g); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.full = time.Since(began)
}

// cut cuts the power in a later part of apply the greater n is.
func (p *power) cut(t *testing.T, g *guest.Guest, n int) {
	t.Helper()
	delay := time.Duration((float64(n) + p.random.Float64()) / cuts * float64(p.full))
	done := make(chan error, 1)
	go func() {
		_, err := apply(t, g)
		done <- err
	}()
	time.Sleep(delay)
	g.Cut()
	err := <-done
	if err == nil {
		p.late++
	}
	t.Logf("cut after %s of some %s: %v", delay.Round(time.Millisecond), p.full.Round(time.Millisecond), err)
}

func apply(t *testing.T, g *guest.Guest) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	return g.Output(ctx, "opencoded", "apply")
}

// seeded is a source of random numbers that VM_SEED repeats.
func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("VM_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("VM_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
