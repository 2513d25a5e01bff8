package faults

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencoded/opencoded/tests/managed"
	"github.com/opencoded/opencoded/tests/operator"
)

// killedPurge: a purge that is killed is finished by the next one, wherever it
// was, and takes nothing of another instance along.
func killedPurge(t *testing.T) {
	random := seeded(t)
	both, one := twoInstances+good, twoInstances
	operator.Apply(t, both)
	operator.Apply(t, one)
	began := time.Now()
	operator.Must(t, "opencoded", "purge", "--yes", "good")
	full := time.Since(began)
	alpha, files := operator.PID(t, "alpha"), managed.Files(t)

	killed := 0
	for n := range rounds / 2 {
		operator.Apply(t, both)
		// Something to delete that takes a while, as the state of a used server does.
		operator.Sh(t, "runuser -u opencode-good -- sh -c 'cd; mkdir -p a/b/c && touch a/{1..200} a/b/c/{1..200}'")
		operator.Apply(t, one)
		purge := operator.Start(t, "opencoded", "purge", "--yes", "good")
		delay := time.Duration((float64(n) + random.Float64()) / (rounds / 2) * float64(full))
		time.Sleep(delay)
		purge.Signal(syscall.SIGKILL)
		if purge.Wait().Code == -1 {
			killed++
		}
		r := operator.Command(t, "opencoded", "purge", "--yes", "good")
		if r.Code != 0 && !strings.Contains(r.Stderr, `there is nothing left of an instance "good"`) {
			t.Fatalf("round %d, killed after %s: the second purge: %v", n, delay, r)
		}
		purged(t, "good")
		operator.NothingToDo(t)
	}
	t.Logf("killed %d of %d in the middle; a full purge takes %s", killed, rounds/2, full.Round(time.Millisecond))
	operator.Same(t, "pid of alpha", operator.PID(t, "alpha"), alpha)
	if d := difference(paths(files), paths(managed.Files(t))); d != "" {
		t.Errorf("the files of the others:\n%s", d)
	}
	operator.Same(t, "a third purge", operator.Command(t, "opencoded", "purge", "--yes", "good").Code, 1)
}

// purged asserts that nothing is left of an instance but its project.
func purged(t *testing.T, name string) {
	t.Helper()
	for _, p := range []string{"/var/lib/opencode/instance-state/" + name, "/var/lib/opencoded/instances/" + name,
		"/etc/sysusers.d/opencode-" + name + ".conf", "/etc/systemd/system/opencode-" + name + ".service"} {
		if _, err := os.Lstat(p); err == nil {
			t.Errorf("%s is still there", p)
		}
	}
	for _, database := range []string{"passwd", "group", "shadow"} {
		operator.Same(t, "getent "+database, operator.Command(t, "getent", database, "opencode-"+name).Code, 2)
	}
	if _, err := os.Stat("/srv/" + name); err != nil {
		t.Error("the project directory is gone")
	}
}

func paths(files map[string]string) string {
	var list []string
	for p := range files {
		list = append(list, p)
	}
	return strings.Join(list, "\n")
}
