// Package agent is the inside of a running instance: what it runs, it runs as
// opencode's own shell endpoint does, as the instance's user in its sandbox. A
// `su` from outside would prove nothing about mounts, capabilities or seccomp.
package agent

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Agent is one session on an opencode server.
type Agent struct {
	base     string
	password string
	session  string
}

// At is the server at an address such as "127.0.0.1:8787", without a session: for Call alone.
func At(address, password string) *Agent {
	return &Agent{base: "http://" + address, password: password}
}

// Enter opens a session on the server at an address.
func Enter(ctx context.Context, address, password string) (*Agent, error) {
	a := At(address, password)
	var session struct{ ID string }
	if err := a.Call(ctx, http.MethodPost, "/session", "{}", &session); err != nil {
		return nil, err
	}
	a.session = session.ID
	return a, nil
}

// Session is the id of the session.
func (a *Agent) Session() string { return a.session }

var client = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}

// Call makes a request with the server's password and decodes the JSON answer.
func (a *Agent) Call(ctx context.Context, method, path, body string, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, a.base+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.SetBasicAuth("opencode", a.password)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s answers %s: %s", method, path, response.Status, text)
	}
	return json.NewDecoder(bytes.NewReader(text)).Decode(into)
}

// mark is followed by the exit code, behind what the script printed.
const mark = "exit code is "

// Run runs a shell script inside and returns what it printed, both streams, and
// its exit code.
func (a *Agent) Run(ctx context.Context, script string) (output string, code int, err error) {
	// opencode puts the command into a JSON string within an eval, which would
	// expand $ too early and garble newlines: so it travels encoded.
	wrapped := base64.StdEncoding.EncodeToString([]byte("(\n" + script + "\n) </dev/null 2>&1; echo \"" + mark + "$?\""))
	body, err := json.Marshal(map[string]string{"agent": "build", "command": "echo " + wrapped + " | base64 -d | bash"})
	if err != nil {
		return "", 0, err
	}
	var message struct {
		Parts []struct {
			Type  string
			State struct{ Output string }
		}
	}
	if err := a.Call(ctx, http.MethodPost, "/session/"+a.session+"/shell", string(body), &message); err != nil {
		return "", 0, err
	}
	for _, p := range message.Parts {
		if p.Type != "tool" {
			continue
		}
		out := strings.TrimRight(p.State.Output, "\n")
		i := strings.LastIndex(out, mark)
		if i < 0 {
			return "", 0, fmt.Errorf("no exit code in %q", out)
		}
		if _, err := fmt.Sscan(out[i+len(mark):], &code); err != nil {
			return "", 0, err
		}
		return strings.TrimSpace(out[:i]), code, nil
	}
	return "", 0, errors.New("the shell endpoint answered without output")
}
