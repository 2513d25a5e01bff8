package blocked

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/opencoded/opencoded/internal/destination"
)

// groups reads "tcp 192.0.2.1:443", each with one packet more than the one behind it.
func groups(t testing.TB, list ...string) []Group {
	var out []Group
	for n, text := range list {
		text, local := strings.CutSuffix(text, " local")
		protocol, at, _ := strings.Cut(text, " ")
		g := Group{Target: Target{Instance: "web", Protocol: protocol, Local: local}, Logged: len(list) - n}
		if a, err := netip.ParseAddrPort(at); err == nil {
			g.Address, g.Port = a.Addr(), a.Port()
		} else {
			g.Address = netip.MustParseAddr(at)
		}
		out = append(out, g)
	}
	return out
}

func destinations(t testing.TB, text string) []destination.Destination {
	var out []destination.Destination
	for s := range strings.FieldsSeq(text) {
		d, _, err := destination.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	return out
}

// spread are n addresses of a pattern, at a port.
func spread(pattern string, n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf(pattern, i+1))
	}
	return out
}

func TestPropose(t *testing.T) {
	for _, c := range []struct {
		name, present string
		tried         []string
		want          string // "ENTRY=LOGGED"; in parentheses what is refused
	}{
		{name: "nothing", want: ""},
		{name: "each by itself, the most frequent first", tried: []string{"udp 198.51.100.1:53", "tcp 192.0.2.1:443", "icmp 192.0.2.2", "47 192.0.2.3"},
			want: "198.51.100.1:53/udp=4 192.0.2.1:443=3 192.0.2.2=2 192.0.2.3=1"},
		{name: "three are not many", tried: spread("tcp 192.0.2.%d:443", 3), want: "192.0.2.1:443=3 192.0.2.2:443=2 192.0.2.3:443=1"},
		{name: "four are", tried: spread("tcp 192.0.2.%d:443", 4), want: "192.0.2.0/24:443=10"},
		{name: "four in IPv6", tried: spread("udp [2001:db8::%x]:53", 4), want: "[2001:db8::/64]:53/udp=10"},
		{name: "four without ports", tried: spread("icmp 192.0.2.%d", 4), want: "192.0.2.1=4 192.0.2.2=3 192.0.2.3=2 192.0.2.4=1"},
		{name: "different ports", tried: append(spread("tcp 192.0.2.%d:443", 3), "tcp 192.0.2.4:444"),
			want: "192.0.2.1:443=4 192.0.2.2:443=3 192.0.2.3:443=2 192.0.2.4:444=1"},
		{name: "different protocols", tried: append(spread("tcp 192.0.2.%d:443", 3), "udp 192.0.2.4:443"),
			want: "192.0.2.1:443=4 192.0.2.2:443=3 192.0.2.3:443=2 192.0.2.4:443/udp=1"},
		{name: "one address at many ports", tried: spread("tcp 192.0.2.1:%d", 4), want: "192.0.2.1:1=4 192.0.2.1:2=3 192.0.2.1:3=2 192.0.2.1:4=1"},
		{name: "present ones stay, and are counted", present: "203.0.113.0/24 10.0.0.0/8:443", tried: []string{"tcp 10.1.2.3:443", "tcp 10.1.2.3:80"},
			want: "203.0.113.0/24=0 10.0.0.0/8:443=2 10.1.2.3:80=1"},
		{name: "a network that the inventory names", present: "10.20.0.0/16:5432", tried: spread("tcp 10.20.%d.7:443", 4),
			want: "10.20.0.0/16:5432=0 10.20.0.0/16:443=10"},
		{name: "the narrowest of them", present: "10.20.0.0/16:5432 10.20.0.0/20:22", tried: append(spread("tcp 10.20.%d.7:443", 4), "tcp 10.20.99.1:443"),
			want: "10.20.0.0/16:5432=0 10.20.0.0/20:22=0 10.20.0.0/20:443=14 10.20.99.1:443=1"},
		{name: "not one that is too wide", present: "10.0.0.0/8:5432", tried: spread("tcp 10.20.%d.7:443", 4),
			want: "10.0.0.0/8:5432=0 10.20.1.7:443=4 10.20.2.7:443=3 10.20.3.7:443=2 10.20.4.7:443=1"},
		{name: "a bare address covers its ports", tried: []string{"tcp 192.0.2.1:443", "icmp 192.0.2.1", "tcp 192.0.2.1:80"}, want: "192.0.2.1=6"},
		{name: "metadata", present: "0.0.0.0/0:443", tried: []string{"tcp 169.254.169.254:80", "tcp [fd00:ec2::254]:80", "icmp 168.63.129.16"},
			want: "0.0.0.0/0:443=0 (169.254.169.254:80=3) ([fd00:ec2::254]:80=2) (168.63.129.16=1)"},
		{name: "no network around metadata", tried: spread("tcp 100.100.100.%d:80", 4),
			want: "100.100.100.1:80=4 100.100.100.2:80=3 100.100.100.3:80=2 100.100.100.4:80=1"},
		{name: "no link-local network", tried: spread("tcp 169.254.1.%d:80", 4),
			want: "169.254.1.1:80=4 169.254.1.2:80=3 169.254.1.3:80=2 169.254.1.4:80=1"},
		{name: "no multicast network", tried: spread("udp [ff02::%d]:80", 4),
			want: "[ff02::1]:80/udp=4 [ff02::2]:80/udp=3 [ff02::3]:80/udp=2 [ff02::4]:80/udp=1"},
		{name: "no network of loopback", tried: []string{"udp 127.0.0.1:53 local", "udp 127.0.0.2:53 local", "udp 127.0.0.3:53 local", "udp 127.0.0.53:53 local"},
			want: "127.0.0.1:53/udp=4 127.0.0.2:53/udp=3 127.0.0.3:53/udp=2 127.0.0.53:53/udp=1"},
		{name: "what the guard closes", present: "192.0.2.0/24", tried: []string{"tcp 192.0.2.1:8702 local", "tcp 127.0.0.1:8702 local"},
			want: "192.0.2.0/24=0 (192.0.2.1:8702=2) (127.0.0.1:8702=1)"},
		{name: "no port in the log", tried: []string{"tcp 192.0.2.1", "udp 192.0.2.1"}, want: "(192.0.2.1=3)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := groups(t, c.tried...)
			var got []string
			for _, e := range Propose(g, destinations(t, c.present)) {
				text := fmt.Sprintf("%s=%d", e.Destination, e.Logged)
				if e.Refused != "" {
					text = "(" + text + ")"
				}
				got = append(got, text)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got  %s\nwant %s", strings.Join(got, " "), c.want)
			}
			checkTOML(t, g)
		})
	}
}

// checkTOML: the fragment is TOML, and its entries cover every group but those that
// are refused.
func checkTOML(t *testing.T, groups []Group) {
	t.Helper()
	entries := Propose(groups, nil)
	text := TOML("web", entries, Names{}, "a remark\x1b[2J\nwith = lines")
	var f struct {
		Instances map[string]struct {
			Network struct {
				Allow []string `toml:"outbound_allow_cidrs"`
			} `toml:"network_isolation"`
		}
	}
	meta, err := toml.Decode(text, &f)
	if err != nil || len(meta.Undecoded()) > 0 {
		t.Fatalf("%v, %v:\n%s", err, meta.Undecoded(), text)
	}
	allow := destinations(t, strings.Join(f.Instances["web"].Network.Allow, " "))
	for _, g := range groups {
		covered := slices.ContainsFunc(allow, func(d destination.Destination) bool { return d.Covers(g.Destination()) })
		if refused := refusal(g.Target) != ""; !covered && !refused {
			t.Errorf("%s is not allowed by\n%s", g.Target, text)
		}
	}
}

func TestTOML(t *testing.T) {
	names := Hosts("# none\n192.0.2.1 db.example db # the database\n198.51.100.1 a\x1b[31m b c d e\nnonsense\n")
	tried := append(spread("tcp 192.0.2.%d:5432", 4), "icmp 198.51.100.1", "tcp 169.254.169.254:80")
	got := TOML("web", Propose(groups(t, tried...), destinations(t, "10.0.0.0/8")), names, "7 packets")
	const want = `# 7 packets
[instances.web.network_isolation]
outbound_allow_cidrs = [
	"10.0.0.0/8",           # present
	"192.0.2.0/24:5432",    # 18 logged, 4 addresses; db.example, db
	"198.51.100.1",         # 2 logged; a?[31m, b, c, 2 more names; icmp has no port: every port is allowed too
	# "169.254.169.254:80", # WARNING: cloud metadata, which hands out credentials; 1 logged
]
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	got = TOML("web", Propose(groups(t, spread("tcp 10.1.2.%d:5432", 4)...), nil), nil)
	if !strings.Contains(got, `"10.1.2.0/24:5432", # 10 logged, 4 addresses; WARNING: private network, its other hosts are allowed too`) {
		t.Error(got)
	}
	if got, want := TOML("web", nil, nil), "[instances.web.network_isolation]\noutbound_allow_cidrs = []\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLog(t *testing.T) {
	var l Log
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	a := groups(t, "tcp 192.0.2.1:443", "tcp 192.0.2.2:443")
	for _, n := range []int{5, 3, 9} {
		l.Add(Attempt{a[1].Target, at(n)})
	}
	l.Add(Attempt{a[0].Target, at(4)})
	reported := a[0].Target
	reported.Reported = true
	l.Add(Attempt{reported, at(4)})
	got, logged, further := l.Of("web")
	if len(got) != 3 || logged != 5 || further != 0 || got[0].Logged != 3 || !got[0].First.Equal(at(3)) || !got[0].Last.Equal(at(9)) ||
		got[1].Reported || !got[2].Reported {
		t.Errorf("%+v, %d, %d", got, logged, further)
	}
	if got, logged, further := l.Of("other"); got != nil || logged+further != 0 {
		t.Errorf("%+v, %d, %d of an instance that tried nothing", got, logged, further)
	}
}

// One instance tries everything: what is told apart is bounded, nothing goes uncounted,
// and another instance is seen all the same.
func TestLogIsBounded(t *testing.T) {
	var l Log
	for n := range 3 * MaxGroups {
		a := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		l.Add(Attempt{Target: Target{Instance: "web", Address: a, Protocol: "tcp", Port: 443}})
	}
	l.Add(Attempt{Target: Target{Instance: "other", Address: netip.MustParseAddr("192.0.2.1"), Protocol: "tcp", Port: 443}})
	got, logged, further := l.Of("web")
	if len(got) != MaxGroups || logged != 3*MaxGroups || further != 2*MaxGroups {
		t.Errorf("%d groups, %d logged, %d further", len(got), logged, further)
	}
	if got, _, _ := l.Of("other"); len(got) != 1 || fmt.Sprint(l.Instances()) != "[other web]" {
		t.Errorf("%+v of the other, of %v", got, l.Instances())
	}
	began := time.Now()
	entries := Propose(got, nil)
	if d := time.Since(began); d > 5*time.Second || len(entries) != MaxGroups/256+1 {
		t.Errorf("%d entries after %s", len(entries), d)
	}
}
