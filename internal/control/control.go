// Package control is what opencoded.service and the command line say to each other over a Unix socket: HTTP with JSON,
// as Docker and snapd do. The service answers root, and operators that the inventory names; whom it talks to the kernel
// says (SO_PEERCRED).
package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Socket is where the service listens. Everybody can connect, and is told why not.
const Socket = "/run/opencoded/control.sock"

// State is what the service knows of itself.
type State struct {
	Version       string    `json:"version"`
	Inventory     string    `json:"inventory"`             // its path
	Loaded        time.Time `json:"loaded,omitzero"`       // when the one that is in force was read
	Generation    int       `json:"generation"`            // how many different ones have been in force since the start
	Broken        []string  `json:"broken,omitempty"`      // errors of the inventory as it is now: the one before is kept
	Failed        []string  `json:"failed,omitempty"`      // instances that did not come up
	Problem       string    `json:"problem,omitempty"`     // why the host could not be looked at or changed; it is tried again
	Waiting       int       `json:"waiting"`               // changes that auto_apply = false leaves to `opencoded apply`
	Rules         string    `json:"rules_error,omitempty"` // why the egress rules could not be restored
	RulesRestored int       `json:"rules_restored"`        // tables, since the start
	Instances     int       `json:"instances"`             // that are wanted
	Healthy       int       `json:"healthy"`
}

// Access is what an operator needs to reach an instance.
type Access struct {
	URL       string `json:"url"`
	Password  string `json:"password,omitempty"` // "" without auth
	Opencode  string `json:"opencode"`           // the program that runs there
	Directory string `json:"directory"`
}

// ErrNotRunning means that nobody listens on the socket.
var ErrNotRunning = errors.New("opencoded.service is not running")

// Client talks to the service.
type Client struct{ http http.Client }

// NewClient makes a client for the socket at path.
func NewClient(path string) *Client {
	return &Client{http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}
}

// Refusal is an answer of the service that something could not be done.
type Refusal struct {
	Message string   `json:"error"`
	Lines   []string `json:"lines,omitempty"` // more of it: errors of the inventory
}

func (r *Refusal) Error() string { return r.Message }

// do sends a request. The body of the answer is the caller's to close.
func (c *Client) do(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://opencoded"+path, &body)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(request)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("cannot talk to opencoded.service: %w", err)
	}
	if answer.StatusCode < 300 {
		return answer.Body, nil
	}
	defer answer.Body.Close()
	refusal := &Refusal{}
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if json.Unmarshal(text, refusal) != nil || refusal.Message == "" {
		refusal.Message = strings.TrimSpace(answer.Status + " " + string(text))
	}
	return nil, refusal
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	body, err := c.do(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		return nil
	}
	return json.NewDecoder(body).Decode(out)
}

// State asks how the service is.
func (c *Client) State(ctx context.Context) (State, error) {
	var s State
	return s, c.call(ctx, http.MethodGet, "/v1/state", nil, &s)
}

// Reload has the inventory read again, and returns when the host is as it says, or why it is not: a *Refusal.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/reload", nil, nil)
}

func instancePath(name, what string) string {
	return "/v1/instances/" + url.PathEscape(name) + "/" + what
}

// Operate starts, stops or restarts an instance.
func (c *Client) Operate(ctx context.Context, what, name string) error {
	return c.call(ctx, http.MethodPost, instancePath(name, what), nil, nil)
}

// Access asks how an instance is reached.
func (c *Client) Access(ctx context.Context, name string) (Access, error) {
	var a Access
	return a, c.call(ctx, http.MethodGet, instancePath(name, "access"), nil, &a)
}

// RotatePassword gives an instance a new password, with which it restarts.
func (c *Client) RotatePassword(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodPost, instancePath(name, "password"), nil, nil)
}

// Logs copies the journal of an instance, see host.Logs.
func (c *Client) Logs(ctx context.Context, w io.Writer, name string, lines int, since string, follow bool) error {
	q := url.Values{"lines": {fmt.Sprint(lines)}, "since": {since}, "follow": {fmt.Sprint(follow)}}
	body, err := c.do(ctx, http.MethodGet, instancePath(name, "logs")+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(w, body)
	if ctx.Err() != nil {
		return nil
	}
	return err
}
