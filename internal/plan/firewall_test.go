package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/netpolicy"
)

func firewalled(t *testing.T, address string, change func(*Facts)) (Desired, string) {
	t.Helper()
	inv, problems := instance.Parse("i.toml", []byte(`version = 1
[instances.a]
directory = "/srv/a"
listen = { address = "`+address+`", port = 8701 }
open_firewall = true
`))
	if len(problems.Errors()) > 0 {
		t.Fatal(problems)
	}
	facts := fixed(inv)
	facts.Firewalls = nil
	change(&facts)
	d, problems := Desire(inv, facts)
	var said []string
	for _, p := range problems {
		said = append(said, p.String())
	}
	return d, strings.Join(said, "\n")
}

// TestOpenings: the rule is as narrow as the address, and in the words of whoever
// manages the firewall.
func TestOpenings(t *testing.T) {
	const tail = ` port port="8701" protocol="tcp" log prefix="opencode-a-opened: " level="debug" limit value="2/d" accept`
	for address, want := range map[string][]string{
		"127.0.0.1":   nil,
		"::1":         nil,
		"0.0.0.0":     {`firewalld zone public: rule family="ipv4"` + tail, "ufw: allow 8701/tcp"},
		"::":          {`firewalld zone public: rule` + tail, "ufw: allow 8701/tcp"},
		"192.0.2.1":   {`firewalld zone dmz: rule family="ipv4" destination address="192.0.2.1"` + tail, "ufw: allow to 192.0.2.1 port 8701 proto tcp"},
		"2001:db8::1": {`firewalld zone public: rule family="ipv6" destination address="2001:db8::1"` + tail, "ufw: allow to 2001:db8::1 port 8701 proto tcp"},
	} {
		d, said := firewalled(t, address, func(f *Facts) {
			f.Firewalls = []Firewall{
				{Manager: Firewalld, Active: true, Zone: "public", Zones: map[netip.Addr]string{
					netip.MustParseAddr("192.0.2.1"): "dmz", netip.MustParseAddr("2001:db8::1"): ""}},
				{Manager: UFW, Active: true},
			}
		})
		var got []string
		for _, o := range d.Targets[0].Openings {
			got = append(got, o.String())
			if name := RichRuleInstance(o.Rule); o.Manager == Firewalld && name != "a" {
				t.Errorf("the rule is taken for one of %q: %s", name, o.Rule)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
		if want != nil && said != "" {
			t.Errorf("%s: %s", address, said)
		}
	}
}

// TestOnlyOwnRules: what looks like a rule of opencoded's and is none is left alone.
func TestOnlyOwnRules(t *testing.T) {
	for _, rule := range []string{
		`rule family="ipv4" port port="8701" protocol="tcp" accept`,
		`rule port port="8701" protocol="tcp" log prefix="mine: " accept`,
		`rule port port="8701" protocol="tcp" log prefix="opencode-a-blocked: " accept`,
		`rule service name="x" log prefix="opencode-a" level="info" log prefix="-opened: " accept`,
	} {
		if name := RichRuleInstance(rule); name != "" {
			t.Errorf("%s is taken for a rule of %q", rule, name)
		}
	}
	for _, comment := range []string{"", "opencoded", "for opencoded: a", "ssh"} {
		if name := CommentInstance(comment); name != "" {
			t.Errorf("%q is taken for a comment of %q", comment, name)
		}
	}
}

// TestRulesOfOthersInUFW: ufw would replace the administrator's rule for the same
// port; so it stays, and counts.
func TestRulesOfOthersInUFW(t *testing.T) {
	for other, want := range map[string]string{
		"allow 8701/tcp":     "",
		"limit 8701/tcp":     "",
		"allow log 8701/tcp": "",
		"deny 8701/tcp":      `stays closed: ufw has the rule "deny 8701/tcp" of somebody else`,
		"reject 8701/tcp":    `stays closed: ufw has the rule "reject 8701/tcp" of somebody else`,
	} {
		d, said := firewalled(t, "0.0.0.0", func(f *Facts) {
			f.Firewalls = []Firewall{{Manager: UFW, Active: true, Others: []string{"allow 22/tcp", other}}}
		})
		if n := len(d.Targets[0].Openings); n != 0 {
			t.Errorf("%s: %d rules of our own", other, n)
		}
		if !strings.Contains(said, want) || want == "" && said != "" {
			t.Errorf("%s: said %q, want %q", other, said, want)
		}
	}
	d, _ := firewalled(t, "0.0.0.0", func(f *Facts) {
		f.Firewalls = []Firewall{{Manager: UFW, Active: true, Others: []string{"allow 8701", "route allow 8701/tcp", "allow in on eth0 to any port 8701 proto tcp"}}}
	})
	if len(d.Targets[0].Openings) != 1 {
		t.Error("rules of a wider or narrower kind stand in for our own")
	}
}

// TestUnmanagedInput: a chain that drops, and that nobody who can be asked manages,
// is named with the very rule that helps.
func TestUnmanagedInput(t *testing.T) {
	chain := func(family, table string, comments ...string) netpolicy.InputChain {
		return netpolicy.InputChain{Family: family, Table: table, Chain: "input", Comments: comments}
	}
	ufw, firewalld := Firewall{Manager: UFW, Active: true}, Firewall{Manager: Firewalld, Active: true, Zone: "public"}
	idle := Firewall{Manager: UFW}
	const port = `tcp dport 8701 accept comment '"opencoded: a"'`
	for n, c := range []struct {
		address string
		chain   netpolicy.InputChain
		manager *Firewall
		want    string // the rule; "" for no warning
	}{
		{"0.0.0.0", chain("inet", "filter"), nil, "nft add rule inet filter input " + port},
		{"192.0.2.1", chain("inet", "filter"), nil, "nft add rule inet filter input ip daddr 192.0.2.1 " + port},
		{"2001:db8::1", chain("ip6", "filter"), nil, "nft add rule ip6 filter input ip6 daddr 2001:db8::1 " + port},
		{"::", chain("ip", "filter"), nil, "nft add rule ip filter input " + port},
		{"2001:db8::1", chain("ip", "filter"), nil, ""},
		{"0.0.0.0", chain("ip6", "filter"), nil, ""},
		{"127.0.0.1", chain("inet", "filter"), nil, ""},
		{"0.0.0.0", chain("inet", "filter", "opencoded: a"), nil, ""},
		{"0.0.0.0", chain("inet", "filter", "opencoded: b"), nil, "nft add rule inet filter input " + port},
		{"0.0.0.0", chain("ip", "filter"), &ufw, ""},
		{"0.0.0.0", chain("ip", "filter"), &idle, "nft add rule ip filter input " + port},
		{"0.0.0.0", chain("inet", "filter"), &ufw, "nft add rule inet filter input " + port},
		{"0.0.0.0", chain("inet", "firewalld"), &firewalld, ""},
		{"0.0.0.0", chain("ip", "filter"), &firewalld, "nft add rule ip filter input " + port},
	} {
		_, said := firewalled(t, c.address, func(f *Facts) {
			f.DroppingInputs = []netpolicy.InputChain{c.chain}
			if c.manager != nil {
				f.Firewalls = []Firewall{*c.manager}
			}
		})
		warned := strings.Contains(said, "neither firewalld nor ufw manages table")
		if warned != (c.want != "") || !strings.Contains(said, c.want) {
			t.Errorf("%d: %v: said %q, want %q", n, c.chain, said, c.want)
		}
	}
}

// TestOpeningsDrift: what is missing is made, what is no longer wanted goes, what
// would not outlive a reload is saved; an inactive manager gets nothing new.
func TestOpeningsDrift(t *testing.T) {
	with := func(o Opening, change func(*Opening)) Opening { change(&o); return o }
	firewalld, ufw := Firewall{Manager: Firewalld, Active: true, Zone: "public"}, Firewall{Manager: UFW}
	d, _ := firewalled(t, "0.0.0.0", func(f *Facts) { f.Firewalls = []Firewall{firewalld, ufw} })
	d.Targets[0].NewAccount = false
	rich, idle := d.Targets[0].Openings[0], d.Targets[0].Openings[1]
	for n, c := range []struct {
		have []Opening
		want string
	}{
		{[]Opening{rich}, ""},
		{[]Opening{rich, idle}, ""},
		{nil, "create firewalld zone public ()"},
		{[]Opening{with(rich, func(o *Opening) { o.Saved = false })}, "change firewalld zone public (lost with the next reload)"},
		{[]Opening{with(rich, func(o *Opening) { o.Loaded = false })}, "change firewalld zone public (not in force)"},
		{[]Opening{with(rich, func(o *Opening) { o.Zone = "dmz" })}, "remove firewalld zone dmz (); create firewalld zone public ()"},
		{[]Opening{rich, with(idle, func(o *Opening) { o.Rule = "allow 8700/tcp" })}, "remove ufw ()"},
	} {
		have := converged(d)
		have.Openings = map[string][]Opening{"a": c.have}
		var got []string
		for _, s := range Diff(d, have).Lane("a").Steps {
			if s.Kind == KindFirewall {
				got = append(got, fmt.Sprintf("%s %s (%s)", s.Verb, s.Name, s.Why))
			}
		}
		if text := strings.Join(got, "; "); text != c.want {
			t.Errorf("%d: %s, want %s", n, text, c.want)
		}
	}
}
