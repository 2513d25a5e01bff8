package scenario

import (
	"strings"
	"testing"

	inner "github.com/opencoded/opencoded/tests/agent"
	"github.com/opencoded/opencoded/tests/operator"
)

// agent is the inside of a running instance.
type agent struct {
	*inner.Agent
	name string
}

// enter opens a session on a running instance.
func enter(t *testing.T, name string) *agent {
	t.Helper()
	s := operator.Status(t, name)
	if s.State != "healthy" {
		t.Fatalf("%s is %s", name, s.State)
	}
	a, err := inner.Enter(t.Context(), s.Address, password(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return &agent{a, name}
}

// password is the one that the running server was started with.
func password(t *testing.T, name string) string {
	t.Helper()
	for _, v := range strings.Split(operator.Read(t, "/proc/"+operator.PID(t, name)+"/environ"), "\x00") {
		if p, ok := strings.CutPrefix(v, "OPENCODE_SERVER_PASSWORD="); ok {
			return p
		}
	}
	return ""
}

func (a *agent) call(t *testing.T, method, path, body string, into any) {
	t.Helper()
	if err := a.Call(t.Context(), method, path, body, into); err != nil {
		t.Fatal(err)
	}
}

// run runs a command inside and returns what it printed, both streams, and its
// exit code.
func (a *agent) run(t *testing.T, script string) (string, int) {
	t.Helper()
	out, code, err := a.Run(t.Context(), script)
	if err != nil {
		t.Fatalf("inside %s: %s: %v", a.name, script, err)
	}
	return out, code
}

// must runs a command inside that has to succeed.
func (a *agent) must(t *testing.T, script string) string {
	t.Helper()
	out, code := a.run(t, script)
	if code != 0 {
		t.Errorf("inside %s: %s: exit %d: %s", a.name, script, code, out)
	}
	return out
}

// refused runs a command inside that has to fail, with these words.
func (a *agent) refused(t *testing.T, script, words string) {
	t.Helper()
	out, code := a.run(t, script)
	if code == 0 || !strings.Contains(out, words) {
		t.Errorf("inside %s: %s: exit %d, want a failure with %q: %s", a.name, script, code, words, out)
	}
}
