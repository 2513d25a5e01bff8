package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencoded/opencoded/tests/managed"
	"github.com/opencoded/opencoded/tests/operator"
)

// rounds is how often an apply is killed at work.
const rounds = 20

// The two states between which every round changes the host, so that each kind
// of step is there to be killed in: gamma is created with its account and later
// removed and purged, beta gets and loses its isolation, alpha's allowlist
// changes live, and delta restarts for its environment file.
var turns = [2]struct{ inventory, environment string }{
	{common + `
[instances.alpha.network_isolation]
enable = true
outbound_allow_cidrs = ["192.0.2.0/24"]
`, "TURN=one\n"},
	{common + `
[instances.alpha.network_isolation]
enable = true
outbound_allow_cidrs = ["192.0.2.0/25", "2001:db8::/32"]
[instances.beta.network_isolation]
enable = true
[instances.gamma]
directory = "/srv/gamma"
listen.port = 8703
network_isolation.enable = true
`, "TURN=two\n"},
}

const common = `
version = 1
[instances.alpha]
directory = "/srv/alpha"
listen.port = 8701
[instances.beta]
directory = "/srv/beta"
listen.port = 8702
[instances.delta]
directory = "/srv/delta"
listen.port = 8704
environment_file = "/etc/opencode/delta.env"
`

// isolated says in which turns an instance's egress is restricted.
var isolated = map[string][2]bool{"alpha": {true, true}, "beta": {false, true}, "gamma": {true, true}, "delta": {false, false}}

func turn(t *testing.T, n int) {
	t.Helper()
	operator.Write(t, operator.Inventory, turns[n%2].inventory, 0o644)
	operator.Write(t, "/etc/opencode/delta.env", turns[n%2].environment, 0o600)
}

// killedApply: SIGKILL at any moment of an apply leaves no torn file and no
// instance without its rules, and the next apply converges.
func killedApply(t *testing.T) {
	random := seeded(t)
	turn(t, 0)
	operator.Must(t, "opencoded", "apply")
	turn(t, 1)
	began := time.Now()
	operator.Must(t, "opencoded", "apply")
	full := time.Since(began)
	n := 0
	for killed := 0; killed < rounds; n++ {
		if killedRound(t, n, time.Duration(random.Float64()*float64(full))) {
			killed++
		} else {
			full -= full / 10 // the host is quicker now than it was then
		}
		if t.Failed() || n == 4*rounds {
			t.Fatalf("gave up after %d rounds, %d of them killed", n+1, killed)
		}
	}
	t.Logf("killed %d times at work, %d came too late", rounds, n-rounds)
	endWithOpencode(t)
}

// seeded is a source of random numbers that FAULTS_SEED repeats.
func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("FAULTS_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("FAULTS_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// killedRound reports whether the apply was still at work when it was killed.
func killedRound(t *testing.T, n int, delay time.Duration) bool {
	t.Helper()
	turn(t, n)
	before := managed.Files(t)
	apply := operator.Start(t, "opencoded", "apply")
	time.Sleep(delay)
	apply.Signal(syscall.SIGKILL)
	r := apply.Wait()

	guarded(t, n)
	files := managed.Files(t)
	managed.Whole(t, files)
	converges(t)
	guarded(t, n)
	after := managed.Files(t)
	managed.Whole(t, after)
	managed.OldOrNew(t, before, files, after)
	if n%2 == 0 { // gamma is gone: take its account too, so that it is made anew
		operator.Must(t, "opencoded", "purge", "--yes", "gamma")
		operator.NothingToDo(t)
	}
	t.Logf("round %d: killed after %s (exit code %d)", n, delay.Round(time.Millisecond), r.Code)
	return r.Code == -1
}

func converges(t *testing.T) {
	t.Helper()
	if r := operator.Command(t, "opencoded", "apply"); r.Code != 0 {
		t.Fatalf("the apply after the kill: %v", r)
	}
	operator.NothingToDo(t)
}

// guarded asserts that every server that runs has the rules that it has in both
// turns. What systemd still starts or stops meanwhile is seen twice.
func guarded(t *testing.T, n int) {
	t.Helper()
	was := running(t)
	rules := operator.Must(t, "nft", "list", "ruleset")
	is := running(t)
	guard := table(rules, "opencoded-guard")
	for name, pid := range was {
		if is[name] != pid {
			continue
		}
		port := fmt.Sprint(ports[name])
		if !strings.Contains(guard, port) {
			t.Errorf("round %d: %s runs, but the guard does not name its port %s:\n%s", n, name, port, rules)
		}
		if both := isolated[name]; both[0] && both[1] && table(rules, "opencode-"+name) == "" {
			t.Errorf("round %d: %s runs without its egress rules:\n%s", n, name, rules)
		}
	}
}

var ports = map[string]int{"alpha": 8701, "beta": 8702, "gamma": 8703, "delta": 8704}

// running is the main process of each server, past its first steps: while these
// run, the rules may not be there yet.
func running(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name := range isolated {
		p := strings.Fields(operator.Must(t, "systemctl", "show", "-P", "MainPID", "-P", "ActiveState", "opencode-"+name))
		if len(p) == 2 && p[0] != "0" && p[1] == "active" {
			out[name] = p[0]
		}
	}
	return out
}

// table is the part of a ruleset that lists one table, or "".
func table(ruleset, name string) string {
	_, after, found := strings.Cut(ruleset, "table inet "+name+" {\n")
	if !found {
		return ""
	}
	text, _, _ := strings.Cut(after, "\n}")
	return text
}

// endWithOpencode: with the real server too, a kill during the first start of two
// instances and a second apply end in two servers that answer.
func endWithOpencode(t *testing.T) {
	operator.Write(t, operator.Inventory, twoInstances+"[host]\nopencode = \""+realOpencode+"\"\n", 0o644)
	apply := operator.Start(t, "opencoded", "apply")
	operator.Eventually(t, "the first server runs opencode", func() bool {
		return operator.Command(t, "pgrep", "-f", "^"+realOpencode+" serve").Code == 0
	})
	apply.Signal(syscall.SIGKILL)
	apply.Wait()
	converges(t)
	for _, name := range []string{"alpha", "beta"} {
		s := operator.Status(t, name)
		operator.Same(t, name, s.State, "healthy")
		operator.Same(t, "version of "+name, s.Version, operator.Must(t, realOpencode, "--version"))
	}
}
