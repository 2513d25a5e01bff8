package host

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencoded/opencoded/internal/instance"
)

func listenOf(s *httptest.Server) instance.Listen {
	a := netip.MustParseAddrPort(strings.TrimPrefix(s.URL, "http://"))
	return instance.Listen{Address: a.Addr(), Port: a.Port()}
}

// A server is up when it answers and its configuration is valid; the second is
// not part of its own health.
func TestProbe(t *testing.T) {
	for _, c := range []struct {
		name, health, config string
		code                 int
		password, want       string
	}{
		{"up", `{"healthy":true,"version":"1.2.3"}`, "{}", 200, "secret", ""},
		{"broken configuration", `{"healthy":true,"version":"1.2.3"}`, `{"name":"ConfigInvalidError"}`, 400, "secret", "GET /config answers 400 Bad Request: {\"name\":\"ConfigInvalidError\"}"},
		{"something else answers", "<html>", "", 200, "secret", "not that it is healthy"},
		{"unhealthy", `{"healthy":false}`, "", 200, "secret", "not that it is healthy"},
		{"wrong password", "", "", 200, "wrong", "GET /global/health answers 401"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			user, password, _ := r.BasicAuth()
			switch {
			case user != "opencode" || password != "secret":
				w.WriteHeader(401)
			case r.URL.Path == "/global/health":
				w.Write([]byte(c.health))
			case r.URL.Path == "/config":
				w.WriteHeader(c.code)
				w.Write([]byte(c.config))
			}
		}))
		health, err := probe(t.Context(), server{listenOf(s), c.password, probeTimeout})
		s.Close()
		switch {
		case c.want == "" && (err != nil || health.Version != "1.2.3"):
			t.Errorf("%s: got %+v, %v", c.name, health, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// opencode may never answer a request that connects just as its socket opens.
func TestProbeDoesNotWaitForever(t *testing.T) {
	done := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	defer s.Close()
	defer close(done)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := probe(ctx, server{listenOf(s), "", probeTimeout}); err == nil || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("got %v", err)
	}
}

func TestReachable(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1": "127.0.0.1:80", "0.0.0.0": "127.0.0.1:80", "::": "[::1]:80", "::1": "[::1]:80", "192.0.2.1": "192.0.2.1:80",
	} {
		if got := reachable(instance.Listen{Address: netip.MustParseAddr(address), Port: 80}); got != want {
			t.Errorf("reachable(%s) = %s, want %s", address, got, want)
		}
	}
}

func TestResolvDir(t *testing.T) {
	dir := t.TempDir()
	link := func(name, target string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for path, want := range map[string]string{
		"/etc/resolv.conf.not-there":                           "",
		link("stub", "/run/systemd/resolve/stub-resolv.conf"):  "/run/systemd/resolve",
		link("manager", "/run/NetworkManager/resolv.conf"):     "/run/NetworkManager",
		link("flat", "/run/resolv.conf"):                       "/run/resolv.conf",
		link("in-etc", "/etc/resolvconf/resolv.conf"):          "",
		link("twice", filepath.Join(dir, "stub")):              "/run/systemd/resolve",
		link("relative", "../../../run/systemd/resolve/x"):     filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(dir))), "run/systemd/resolve"),
		link("wsl", "/mnt/wsl/resolv.conf"):                    "/mnt/wsl",
		link("store", "/nix/store/abc-resolv.conf/etc/resolv"): "",
	} {
		if got := resolvDir(path); got != want {
			t.Errorf("resolvDir(%s) = %q, want %q", path, got, want)
		}
	}
}

func TestRandomTextIsNeverTheSame(t *testing.T) {
	a, b := randomText(), randomText()
	if len(a) != 32 || a == b || strings.ContainsAny(a, "\"'\\ \n$%") {
		t.Errorf("got %q and %q", a, b)
	}
}
