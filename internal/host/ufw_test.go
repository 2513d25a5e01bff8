package host

import (
	"slices"
	"testing"
)

// TestParseUFW: what ufw 0.36 prints. Ours are those whose comment says so.
func TestParseUFW(t *testing.T) {
	f := parseUFW(`Added user rules (see 'ufw status' for running firewall):
ufw allow 22/tcp
ufw limit 9002/tcp comment 'admin'
ufw allow 9003/tcp comment 'opencoded'
ufw route allow 80/tcp
ufw allow 8787/tcp comment 'opencoded: web'
ufw allow to 192.0.2.1 port 8788 proto tcp comment 'opencoded: api'
`)
	var got []string
	for _, o := range f.Openings {
		got = append(got, o.Instance+": "+o.Rule)
	}
	if want := []string{"web: allow 8787/tcp", "api: allow to 192.0.2.1 port 8788 proto tcp"}; !slices.Equal(got, want) {
		t.Errorf("ours: %q, want %q", got, want)
	}
	if want := []string{"allow 22/tcp", "limit 9002/tcp", "allow 9003/tcp", "route allow 80/tcp"}; !slices.Equal(f.Others, want) {
		t.Errorf("of others: %q, want %q", f.Others, want)
	}
}
