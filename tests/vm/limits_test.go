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

// Two servers with the real opencode, of which one is greedy in every way, and a light one beside them.
const limited = `
version = 1
[defaults]
start_timeout = "10m" # emulated, on a busy host
[instances.greedy]
directory = "/srv/greedy"
listen.port = 8701
resources = { memory_max = "800M", tasks_max = "150", cpu_quota = "100%", nofile = "512" }
[instances.calm]
directory = "/srv/calm"
listen.port = 8702
[instances.light]
directory = "/srv/light"
listen.port = 8703
opencode = "` + standinInside + `"
`

// started: the servers come up, and the kernel has their limits.
func started(t *testing.T) {
	operator.Apply(t, limited)
	operator.NothingToDo(t)
	for _, name := range []string{"greedy", "calm", "light"} {
		operator.Same(t, "state of "+name, operator.Status(t, name).State, "healthy")
	}
	operator.Same(t, "memory.max of greedy", control(t, "memory.max"), fmt.Sprint(800<<20))
	operator.Same(t, "pids.max of greedy", control(t, "pids.max"), "150")
	operator.Same(t, "cpu.max of greedy", control(t, "cpu.max"), "100000 100000")
}

// openFiles: past the limit a file does not open, and the server goes on.
func openFiles(t *testing.T) {
	greedy := enter(t, "greedy")
	operator.Same(t, "limits that the agent sees", greedy.must(t, "ulimit -Sn; ulimit -Hn"), "512\n512")
	said := greedy.must(t, `perl -e 'while (@f < 5000) { open my $f, "<", "/dev/null" or last; push @f, $f } print scalar(@f), " $!"'`)
	count, why, _ := strings.Cut(said, " ")
	operator.Same(t, "why no further file opened", why, "Too many open files")
	if n, err := strconv.Atoi(count); err != nil || n < 450 || n >= 512 {
		t.Errorf("%s files opened, want a few less than 512", count)
	}
	greedy.must(t, "true")
}

// tooManyTasks: an agent that forks without end has its own tasks for itself, and no more of the host's.
func tooManyTasks(t *testing.T) {
	greedy, others := enter(t, "greedy"), watchOthers(t)
	pid := operator.PID(t, "greedy")
	// At most 1000 children, which wait for the test, for five minutes at most.
	type result struct {
		said string
		code int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		said, code, err := greedy.Run(t.Context(), `perl -e '
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
	eventually(t, "no further task is to be had", func() bool { return exists("/srv/greedy/full") })
	operator.Same(t, "tasks of greedy", control(t, "pids.current"), "150")
	others.answer(t, 3)
	operator.Write(t, "/srv/greedy/enough", "", 0o644)
	r := <-done
	if r.err != nil || r.code != 0 || r.said != "Resource temporarily unavailable" {
		t.Errorf("the fork bomb ended with code %d, %v: %s", r.code, r.err, r.said)
	}
	if field(t, control(t, "pids.events"), "max") == 0 {
		t.Error("no fork was refused")
	}
	others.untouched(t)
	operator.Same(t, "pid of greedy", operator.PID(t, "greedy"), pid)
	greedy.must(t, "true")
}

// tooMuchTime: what burns the processor gets what its quota gives in each period of 100 ms.
func tooMuchTime(t *testing.T) {
	greedy, others := enter(t, "greedy"), watchOthers(t)
	operator.Sh(t, "rm -f /srv/greedy/enough")
	done := make(chan error, 1)
	go func() {
		// Two burners for two processors; bounded, should the test have gone.
		_, _, err := greedy.Run(t.Context(), `for n in 1 2; do
			timeout 300 sh -c 'while [ ! -e enough ]; do i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; done' &
		done; wait`)
		done <- err
	}()
	stat := func(key string) int { return field(t, control(t, "cpu.stat"), key) }
	eventually(t, "greedy is throttled", func() bool { return stat("nr_throttled") > 0 })
	before := control(t, "cpu.stat")
	since := func(after, key string) int { return field(t, after, key) - field(t, before, key) }
	var after string
	eventually(t, "it is throttled in ten periods more", func() bool {
		after = control(t, "cpu.stat")
		return since(after, "nr_throttled") >= 10
	})
	periods, used := since(after, "nr_periods"), since(after, "usage_usec")
	t.Logf("%d µs in %d periods, %d of them throttled", used, periods, since(after, "nr_throttled"))
	// One period more, as the two readings are somewhere in one; and what each processor may have run past its end.
	if most := (periods + 1) * 100_000 * 5 / 4; used > most {
		t.Errorf("greedy used %d µs in %d periods of 100,000 µs, want %d at most", used, periods, most)
	}
	others.answer(t, 3)
	operator.Write(t, "/srv/greedy/enough", "", 0o644)
	if err := <-done; err != nil {
		t.Error(err)
	}
	others.untouched(t)
}

// tooMuchMemory: an instance that eats memory is killed by its own limit and comes back; nobody else notices.
func tooMuchMemory(t *testing.T) {
	greedy, others := enter(t, "greedy"), watchOthers(t)
	pid := operator.PID(t, "greedy")
	ate := make(chan error, 1)
	go func() {
		_, _, err := greedy.Run(t.Context(), "head -c 3G /dev/zero | tail")
		ate <- err
	}()
	eventually(t, "the kernel kills for greedy's limit", func() bool {
		killed := operator.Sh(t, "journalctl -k -b -o cat --no-pager | grep oom-kill: || true")
		return strings.Contains(killed, "constraint=CONSTRAINT_MEMCG") &&
			strings.Contains(killed, "oom_memcg=/opencode.slice/opencode-greedy.service")
	})
	eventually(t, "greedy is back", func() bool { return operator.Status(t, "greedy").State == "healthy" })
	if err := <-ate; err == nil {
		t.Error("the command that ate the memory came to an end")
	}
	operator.Contains(t, "greedy's journal", operator.Must(t, "journalctl", "-b", "-o", "cat", "--no-pager", "-u", "opencode-greedy"),
		"Failed with result 'oom-kill'")
	operator.Same(t, "restarts of greedy", operator.Must(t, "systemctl", "show", "-P", "NRestarts", "opencode-greedy"), "1")
	if operator.PID(t, "greedy") == pid {
		t.Error("greedy was not restarted")
	}
	others.answer(t, 3)
	others.untouched(t)
	operator.Same(t, "other kills", operator.Sh(t, "journalctl -k -b -o cat --no-pager | grep oom-kill: | grep -v opencode-greedy || true"), "")
	enter(t, "greedy").must(t, "true")
	operator.NothingToDo(t)
}

// control is a file of greedy's control group.
func control(t *testing.T, file string) string {
	t.Helper()
	group := operator.Must(t, "systemctl", "show", "-P", "ControlGroup", "opencode-greedy")
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
	const limit = 5 * time.Minute
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}
