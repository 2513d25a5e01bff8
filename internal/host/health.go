package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/plan"
)

// Timings of the probe.
const (
	// probeTimeout bounds one request. opencode may never answer one that
	// connects within a tenth of a second of its socket opening, so a probe is
	// short and repeated.
	probeTimeout = 2 * time.Second
	probeFirst   = 50 * time.Millisecond // pause after the first failed probe, doubling
	probeLast    = time.Second           // up to this
	// givenUp is after how many automatic restarts a server is said not to stay up.
	givenUp = 3
)

// Health is what a running server answered.
type Health struct {
	Version string `json:"version"` // of opencode
}

// probe asks a server whether it is up: it answers, and its configuration is
// valid. The first alone says nothing about the second, see the endpoints.
func probe(ctx context.Context, s server) (Health, error) {
	health, err := s.health(ctx)
	if err == nil {
		_, err = s.get(ctx, "/config")
	}
	return health, err
}

// Pulse is what a server that is up says of itself.
type Pulse struct {
	Health
	Busy int           // sessions that are at work
	Took time.Duration // until it had said that it is healthy
}

// FeelPulse asks the server that a unit runs whether it is healthy, and then what it is doing. It asks no other: see
// serves. That it does not say what it does is no error.
func FeelPulse(ctx context.Context, u Unit, listen instance.Listen, timeout time.Duration) (Pulse, error) {
	if err := serves(u, listen); err != nil {
		return Pulse{}, err
	}
	s, began := server{listen, Password(u), timeout}, time.Now()
	health, err := s.health(ctx)
	p := Pulse{Health: health, Took: time.Since(began)}
	if err != nil {
		return p, err
	}
	var sessions map[string]struct{ Type string }
	if body, err := s.get(ctx, "/session/status"); err == nil && json.Unmarshal(body, &sessions) == nil {
		for _, session := range sessions {
			if session.Type != "idle" {
				p.Busy++
			}
		}
	}
	return p, nil
}

// server is how one is asked.
type server struct {
	listen   instance.Listen
	password string
	timeout  time.Duration // of one request
}

func (s server) health(ctx context.Context) (Health, error) {
	body, err := s.get(ctx, "/global/health")
	if err != nil {
		return Health{}, err
	}
	var health struct {
		Healthy bool
		Health
	}
	if err := json.Unmarshal(body, &health); err != nil || !health.Healthy {
		return Health{}, fmt.Errorf("GET /global/health answers %.80q, not that it is healthy", body)
	}
	return health.Health, nil
}

// client makes a connection for each request: a kept one would hold on to a
// server that is being replaced.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}

func (s server) get(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(s.listen)+path, nil)
	if err != nil {
		return nil, err
	}
	if s.password != "" {
		request.SetBasicAuth("opencode", s.password)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, cause(err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s answers %s: %.300s", path, response.Status, body)
	}
	return body, err
}

// cause leaves out the address and the method, which the caller names.
func cause(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// reachable is where a listener answers on this host.
func reachable(l instance.Listen) string {
	a := l.Address
	switch {
	case a == netip.IPv4Unspecified():
		a = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case a == netip.IPv6Unspecified():
		a = netip.IPv6Loopback()
	}
	return net.JoinHostPort(a.String(), strconv.Itoa(int(l.Port)))
}

// awaitHealth probes a server until it is up, until systemd gives up on it, or
// until its time is over. The error is the last probe's.
func (h *Host) awaitHealth(ctx context.Context, t *plan.Target, unitDir string, patience time.Duration) (Health, error) {
	i := t.Instance
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	before := int64(-1)
	for pause := probeFirst; ; pause = min(2*pause, probeLast) {
		u, err := h.Unit(ctx, i.ServiceName(), unitDir)
		if err == nil && before < 0 {
			before = int64(u.Restarts) // a server may have crashed now and then in its time
		}
		if err == nil && (u.Active == "failed" || u.Active == "inactive" || int64(u.Restarts)-before >= givenUp) {
			err := fmt.Errorf("it does not stay up: %s (%s), %s", u.Active, u.Sub, u.Result)
			// The server says this in words of its own, if at all.
			if taken := listensAlone(i.Listen, t.Account.UID); errors.Is(taken, errTaken) {
				err = fmt.Errorf("%w: %w", err, taken)
			}
			return Health{}, err
		}
		var health Health
		if err == nil {
			health, err = probeUnit(ctx, u, i.Listen)
		}
		if err == nil {
			return health, nil
		}
		select {
		case <-ctx.Done():
			if why := context.Cause(ctx); !errors.Is(why, context.DeadlineExceeded) {
				return Health{}, fmt.Errorf("not up yet: %w", why)
			}
			return Health{}, fmt.Errorf("not up after %s: %w", patience, err)
		case <-time.After(pause):
		}
	}
}
