package scenario

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// agent is the inside of a running instance: what it runs, it runs as opencode's
// own shell would, in the instance's sandbox.
type agent struct {
	name     string
	base     string // URL of the server
	password string
	session  string
}

// enter opens a session on a running instance.
func enter(t *testing.T, name string) *agent {
	t.Helper()
	s := status(t, name)
	if s.State != "healthy" {
		t.Fatalf("%s is %s", name, s.State)
	}
	a := &agent{name: name, base: "http://" + s.Address, password: password(t, name)}
	var session struct{ ID string }
	a.call(t, http.MethodPost, "/session", "{}", &session)
	a.session = session.ID
	return a
}

// password is the one that the running server was started with.
func password(t *testing.T, name string) string {
	t.Helper()
	for _, v := range strings.Split(read(t, "/proc/"+pid(t, name)+"/environ"), "\x00") {
		if p, ok := strings.CutPrefix(v, "OPENCODE_SERVER_PASSWORD="); ok {
			return p
		}
	}
	return ""
}

var client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}

func (a *agent) call(t *testing.T, method, path, body string, into any) {
	t.Helper()
	code, text := a.request(t, method, path, body)
	if code != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, code, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
}

func (a *agent) request(t *testing.T, method, path, body string) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, a.base+path, bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.SetBasicAuth("opencode", a.password)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, text
}

// run runs a command inside and returns what it printed, both streams, and its
// exit code.
func (a *agent) run(t *testing.T, script string) (string, int) {
	t.Helper()
	const mark = "exit code is "
	// opencode puts the command into a JSON string within an eval, which would
	// expand $ too early and garble newlines: so it travels encoded.
	wrapped := base64.StdEncoding.EncodeToString([]byte("(\n" + script + "\n) </dev/null 2>&1; echo \"" + mark + "$?\""))
	body, err := json.Marshal(map[string]string{"agent": "build", "command": "echo " + wrapped + " | base64 -d | bash"})
	if err != nil {
		t.Fatal(err)
	}
	var message struct {
		Parts []struct {
			Type  string
			State struct{ Output string }
		}
	}
	a.call(t, http.MethodPost, "/session/"+a.session+"/shell", string(body), &message)
	for _, p := range message.Parts {
		if p.Type != "tool" {
			continue
		}
		out := strings.TrimRight(p.State.Output, "\n")
		i := strings.LastIndex(out, mark)
		if i < 0 {
			t.Fatalf("%s: %s: no exit code in %q", a.name, script, out)
		}
		var code int
		if _, err := fmt.Sscan(out[i+len(mark):], &code); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out[:i]), code
	}
	t.Fatalf("%s: %s: the shell endpoint answered without output", a.name, script)
	return "", 0
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
