package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencoded/opencoded/tests/operator"
)

// Three servers with the real opencode: two that are greedy, each in its way, and one beside them.
const limited = `
version = 1
[defaults]
start_timeout = "5m" # emulated
[instances.hungry]
directory = "/srv/hungry"
listen.port = 8701
resources = { memory_max = "800M", nofile = "512" }
[instances.busy]
directory = "/srv/busy"
listen.port = 8702
resources = { tasks_max = "150", cpu_quota = "40%" }
[instances.calm]
directory = "/srv/calm"
listen.port = 8703
network_isolation.enable = true
`

var names = []string{"hungry", "busy", "calm"}

// started: three servers of the example come up, and systemd has their limits.
func started(t *testing.T) {
	operator.Apply(t, limited)
	operator.NothingToDo(t)
	for _, name := range names {
		operator.Same(t, "state of "+name, operator.Status(t, name).State, "healthy")
	}
	operator.Same(t, "memory.max of hungry", control(t, "hungry", "memory.max"), fmt.Sprint(800<<20))
	operator.Same(t, "pids.max of busy", control(t, "busy", "pids.max"), "150")
	operator.Same(t, "cpu.max of busy", control(t, "busy", "cpu.max"), "40000 100000")
}

// openFiles: past the limit a file does not open, and the server goes on.
func openFiles(t *testing.T) {
	hungry := enter(t, "hungry")
	operator.Same(t, "limits that the agent sees", hungry.must(t, "ulimit -Sn; ulimit -Hn"), "512\n512")
	said := hungry.must(t, `perl -e 'while (@f < 5000) { open my $f, "<", "/dev/null" or last; push @f, $f } print scalar(@f), " $!"'`)
	count, why, _ := strings.Cut(said, " ")
	operator.Same(t, "why no further file opened", why, "Too many open files")
	if n, err := strconv.Atoi(count); err != nil || n < 450 || n >= 512 {
		t.Errorf("%s files opened, want a few less than 512", count)
	}
	hungry.must(t, "true")
}

// tooManyTasks: an agent that forks without end has its own tasks for itself, and no more of the host's.
func tooManyTasks(t *testing.T) {
	busy, others := enter(t, "busy"), watch(t, "hungry", "calm")
	pid := operator.PID(t, "busy")
	// At most 1000 children, which wait for the test, for five minutes at most.
	type result struct {
		said string
		code int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		said, code, err := busy.Run(t.Context(), `perl -e '
			while (@children < 1000) {
				my $pid = fork;
				if (!defined $pid) { print "$!"; last }
				if (!$pid) { sleep 300; exit }
				push @children, $pid;
			}
			open F, ">", "full"; close F;
			for (1 .. 3000) { last if -e "enough"; select undef, undef, undef, 0.1 }
			kill "KILL", @children'`)
		done <- result{said, code, err}
	}()
	eventually(t, "no further task is to be had", func() bool { return exists("/srv/busy/full") })
	operator.Same(t, "tasks of busy", control(t, "busy", "pids.current"), "150")
	others.answer(t, 3)
	operator.Write(t, "/srv/busy/enough", "", 0o644)
	r := <-done
	if r.err != nil || r.code != 0 || r.said != "Resource temporarily unavailable" {
		t.Errorf("the fork bomb ended with code %d, %v: %s", r.code, r.err, r.said)
	}
	if field(t, control(t, "busy", "pids.events"), "max") == 0 {
		t.Error("no fork was refused")
	}
	others.untouched(t)
	operator.Same(t, "pid of busy", operator.PID(t, "busy"), pid)
	busy.must(t, "true")
}

// tooMuchTime: what burns the processor gets what its quota gives in each period of 100 ms.
func tooMuchTime(t *testing.T) {
	busy, others := enter(t, "busy"), watch(t, "hungry", "calm")
	operator.Sh(t, "rm -f /srv/busy/enough")
	done := make(chan error, 1)
	go func() {
		// Two burners for two processors; bounded, should the test have gone.
		_, _, err := busy.Run(t.Context(), `for n in 1 2; do
			timeout 300 sh -c 'while [ ! -e enough ]; do i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; done' &
		done; wait`)
		done <- err
	}()
	stat := func(key string) int { return field(t, control(t, "busy", "cpu.stat"), key) }
	eventually(t, "busy is throttled", func() bool { return stat("nr_throttled") > 0 })
	before := control(t, "busy", "cpu.stat")
	since := func(after, key string) int { return field(t, after, key) - field(t, before, key) }
	var after string
	eventually(t, "it is throttled in thirty periods more", func() bool {
		after = control(t, "busy", "cpu.stat")
		return since(after, "nr_throttled") >= 30
	})
	periods, used := since(after, "nr_periods"), since(after, "usage_usec")
	t.Logf("%d µs in %d periods, %d of them throttled", used, periods, since(after, "nr_throttled"))
	// One period more, as the two readings are somewhere in one; and what each processor may have run past its end.
	if most := (periods + 1) * 40_000 * 5 / 4; used > most {
		t.Errorf("busy used %d µs in %d periods of 40,000 µs, want %d at most", used, periods, most)
	}
	others.answer(t, 3)
	operator.Write(t, "/srv/busy/enough", "", 0o644)
	if err := <-done; err != nil {
		t.Error(err)
	}
	others.untouched(t)
}

// tooMuchMemory: an instance that eats memory is killed by its own limit and comes back; nobody else notices.
func tooMuchMemory(t *testing.T) {
	hungry, others := enter(t, "hungry"), watch(t, "busy", "calm")
	pid := operator.PID(t, "hungry")
	ate := make(chan error, 1)
	go func() {
		_, _, err := hungry.Run(t.Context(), "head -c 3G /dev/zero | tail")
		ate <- err
	}()
	eventually(t, "the kernel kills for hungry's limit", func() bool {
		killed := operator.Sh(t, "journalctl -k -b -o cat --no-pager | grep oom-kill: || true")
		return strings.Contains(killed, "constraint=CONSTRAINT_MEMCG") &&
			strings.Contains(killed, "oom_memcg=/opencode.slice/opencode-hungry.service")
	})
	eventually(t, "hungry is back", func() bool { return operator.Status(t, "hungry").State == "healthy" })
	if err := <-ate; err == nil {
		t.Error("the command that ate the memory came to an end")
	}
	operator.Contains(t, "hungry's journal", operator.Must(t, "journalctl", "-b", "-o", "cat", "--no-pager", "-u", "opencode-hungry"),
		"Failed with result 'oom-kill'")
	operator.Same(t, "restarts of hungry", operator.Must(t, "systemctl", "show", "-P", "NRestarts", "opencode-hungry"), "1")
	if operator.PID(t, "hungry") == pid {
		t.Error("hungry was not restarted")
	}
	others.answer(t, 3)
	others.untouched(t)
	killed := operator.Sh(t, "journalctl -k -b -o cat --no-pager | grep -c 'invoked oom-killer'; journalctl -k -b -o cat --no-pager | grep oom_memcg= | grep -vc opencode-hungry || true")
	operator.Contains(t, "kills of others", killed, "\n0")
	enter(t, "hungry").must(t, "true")
	operator.NothingToDo(t)
}

// control is a file of an instance's control group.
func control(t *testing.T, name, file string) string {
	t.Helper()
	group := operator.Must(t, "systemctl", "show", "-P", "ControlGroup", "opencode-"+name)
	return strings.TrimSpace(operator.Read(t, filepath.Join("/sys/fs/cgroup", group, file)))
}

// field is a number in one of its files that hold several.
func field(t *testing.T, text, key string) int {
	t.Helper()
	for line := range strings.Lines(text) {
		var n int
		if _, err := fmt.Sscanf(line, key+" %d", &n); err == nil {
			return n
		}
	}
	t.Fatalf("no %s in %q", key, text)
	return 0
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// eventually waits for a condition, up to a limit for an emulated machine.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	const limit = 3 * time.Minute
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}
