package faults

import (
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencoded/opencoded/tests/operator"
)

// lane is an instance "bad" that does not come up, beside two that do.
type lane struct {
	name      string
	inventory string // lines of instances.bad
	arrange   func(t *testing.T)
	says      []string // each in what apply prints on standard error
}

var lanes = []lane{
	{
		name: "port taken", inventory: `listen.port = 8703`,
		arrange: squat,
		says:    []string{"bad: it does not stay up", "127.0.0.1:8703 is taken by a process of root", "address already in use"},
	},
	{
		name: "program that exits", inventory: `opencode = "/usr/local/bin/broken"`,
		arrange: func(t *testing.T) {
			operator.Write(t, "/usr/local/bin/broken", "#!/bin/sh\necho I cannot >&2\nexit 3\n", 0o755)
		},
		says: []string{"bad: it does not stay up", "I cannot", "status=3"},
	},
	{
		name: "unknown argument", inventory: `extra_args = ["--nonsense"]`,
		says: []string{"bad: it does not stay up", "flag provided but not defined: -nonsense"},
	},
	{
		name: "server that hangs", inventory: "start_timeout = \"2s\"\nenvironment = { STANDIN_HANG = \"1\" }",
		says: []string{"bad: not up after 2s", "GET /global/health: no answer in time"},
	},
	{
		// What a variable holds is only seen when opencode starts.
		name: "configuration that opencode refuses", inventory: real + `config.permission = "{env:NOWHERE}"`,
		says: []string{"bad: it does not stay up", "Configuration is invalid", "permission"},
	},
	{
		// Its health is 200 all the same.
		name: "project that opencode refuses", inventory: real + "config_lock = false\nstart_timeout = \"15s\"",
		arrange: func(t *testing.T) {
			operator.Write(t, "/srv/bad/opencode.json", refusedByOpencode, 0o644)
			t.Cleanup(func() { os.Remove("/srv/bad/opencode.json") })
		},
		says: []string{"bad: not up after 15s: GET /config answers 400", "permission"},
	},
}

const (
	real              = "opencode = \"" + realOpencode + "\"\n"
	refusedByOpencode = `{"$schema":"https://opencode.ai/config.json","permission":7}` + "\n"
)

// failingLanes: an instance that does not come up takes no other with it, is
// shown with its last words, and comes up once it is mended.
func failingLanes(t *testing.T) {
	operator.Apply(t, twoInstances)
	for _, l := range lanes {
		t.Run(l.name, l.run)
	}
}

func (l lane) run(t *testing.T) {
	alpha, beta := operator.PID(t, "alpha"), operator.PID(t, "beta")
	t.Run("broken", func(t *testing.T) {
		if l.arrange != nil {
			l.arrange(t)
		}
		operator.Write(t, operator.Inventory, twoInstances+bad(l.inventory)+good, 0o644)
		began := time.Now()
		r := operator.Command(t, "opencoded", "apply")
		operator.Same(t, "exit code", r.Code, 4)
		for _, part := range append(l.says, "opencoded: 1 lane did not come through") {
			operator.Contains(t, "apply", r.Stderr, part)
		}
		operator.Contains(t, "apply", r.Stdout, "good: healthy")
		if took := time.Since(began); strings.Contains(l.inventory, "2s") && took < 2*time.Second {
			t.Errorf("it waited for %s, not for 2s", took)
		}
		for _, name := range []string{"alpha", "beta", "good"} {
			s := operator.Status(t, name)
			operator.Same(t, name, s.State, "healthy")
			operator.Same(t, "drift of "+name, len(s.Drift), 0)
		}
		if s := operator.Status(t, "bad"); s.State == "healthy" {
			t.Error("status has bad as healthy")
		}
	})
	operator.Apply(t, twoInstances+bad("listen.port = 8703")+good)
	operator.Same(t, "bad, mended", operator.Status(t, "bad").State, "healthy")
	operator.NothingToDo(t)
	operator.Apply(t, twoInstances)
	operator.Same(t, "pid of alpha", operator.PID(t, "alpha"), alpha)
	operator.Same(t, "pid of beta", operator.PID(t, "beta"), beta)
}

// bad is the instance that does not come up, good one that is new beside it.
func bad(lines string) string {
	if !strings.Contains(lines, "listen.port") {
		lines += "\nlisten.port = 8703"
	}
	return "[instances.bad]\ndirectory = \"/srv/bad\"\n" + lines + "\n"
}

const good = "[instances.good]\ndirectory = \"/srv/good\"\nlisten.port = 8704\n"

// squat takes the port of bad for as long as the test runs, and answers there as
// a healthy server would: another opencode, for example.
func squat(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:8703")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, given := r.BasicAuth(); given {
			t.Errorf("a stranger on the port was told the password %s", password)
		}
		io.WriteString(w, `{"healthy":true,"version":"of somebody else"}`)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
}
