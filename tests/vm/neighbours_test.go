package vm

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	inner "github.com/opencoded/opencoded/tests/agent"
	"github.com/opencoded/opencoded/tests/operator"
)

// agent is the inside of a running instance.
type agent struct {
	*inner.Agent
	name string
}

func enter(t *testing.T, name string) *agent {
	t.Helper()
	a, err := inner.Enter(t.Context(), operator.Status(t, name).Address, password(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return &agent{a, name}
}

func password(t *testing.T, name string) string {
	t.Helper()
	text := operator.Read(t, "/var/lib/opencoded/instances/"+name+"/password.env")
	return strings.TrimPrefix(strings.TrimSpace(text), "OPENCODE_SERVER_PASSWORD=")
}

// must runs a command inside that has to succeed.
func (a *agent) must(t *testing.T, script string) string {
	t.Helper()
	out, code, err := a.Run(t.Context(), script)
	if err != nil || code != 0 {
		t.Errorf("inside %s: %s: exit %d, %v: %s", a.name, script, code, err, out)
	}
	return out
}

// neighbours are servers that are asked all the time whether they are well, while something happens to another one.
type neighbours []*neighbour

type neighbour struct {
	*agent
	pid      string
	answered atomic.Int64
}

func watchOthers(t *testing.T) neighbours {
	t.Helper()
	var all neighbours
	for _, name := range []string{"calm", "light"} {
		a := &agent{inner.At(operator.Status(t, name).Address, password(t, name)), name}
		n := &neighbour{agent: a, pid: operator.PID(t, name)}
		go n.ask(t)
		all = append(all, n)
	}
	return all
}

// ask asks one question after the other until the test ends, with a pause, so that it is no load itself; one that is
// refused, or not answered within the two minutes of package agent, fails the test.
func (n *neighbour) ask(t *testing.T) {
	for ; ; time.Sleep(200 * time.Millisecond) {
		var health struct{ Healthy bool }
		err := n.Call(t.Context(), http.MethodGet, "/global/health", "", &health)
		switch {
		case t.Context().Err() != nil:
			return
		case err != nil || !health.Healthy:
			t.Errorf("%s does not answer: healthy %t, %v", n.name, health.Healthy, err)
			return
		}
		n.answered.Add(1)
	}
}

// answer waits until each has answered so many questions more, all but the first of them asked from now on.
func (all neighbours) answer(t *testing.T, questions int64) {
	t.Helper()
	for _, n := range all {
		before := n.answered.Load()
		eventually(t, n.name+" answers", func() bool { return n.answered.Load() >= before+questions || t.Failed() })
	}
}

// untouched: they are the processes that they were.
func (all neighbours) untouched(t *testing.T) {
	t.Helper()
	for _, n := range all {
		operator.Same(t, "pid of "+n.name, operator.PID(t, n.name), n.pid)
		operator.Same(t, "restarts of "+n.name, operator.Must(t, "systemctl", "show", "-P", "NRestarts", "opencode-"+n.name), "0")
	}
}
