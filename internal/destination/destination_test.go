package destination

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ text, want, remark, problem string }{
		{text: "10.0.0.0/8", want: "10.0.0.0/8"},
		{text: "10.1.2.3/8", want: "10.0.0.0/8", remark: "has host bits set"},
		{text: "192.0.2.7", want: "192.0.2.7"},
		{text: "192.0.2.7/32", want: "192.0.2.7"},
		{text: "192.0.2.7:5432", want: "192.0.2.7:5432"},
		{text: "192.0.2.7:5432/tcp", want: "192.0.2.7:5432"},
		{text: "198.51.100.1:53/udp", want: "198.51.100.1:53/udp"},
		{text: "10.0.0.0/8:443", want: "10.0.0.0/8:443"},
		{text: "10.0.0.9/8:443/udp", want: "10.0.0.0/8:443/udp", remark: "has host bits set"},
		{text: "2001:db8::/32", want: "2001:db8::/32"},
		{text: "[2001:db8::/64]:443", want: "[2001:db8::/64]:443"},
		{text: "[2001:db8::1]:853/udp", want: "[2001:db8::1]:853/udp"},
		{text: "[2001:db8::1]", want: "2001:db8::1"},
		{text: "::ffff:192.0.2.1", want: "192.0.2.1", remark: "is IPv4 spelled as IPv6"},
		{text: "[::ffff:10.0.0.0/104]:80", want: "10.0.0.0/8:80", remark: "is IPv4 spelled as IPv6"},
		{text: "0.0.0.0/0", want: "0.0.0.0/0"},
		{text: "::/0", want: "::/0"},

		{text: "", problem: `"" is not a network`},
		{text: "example.com", problem: `"example.com" is not a network`},
		{text: "10.0.0.0/33", problem: `"10.0.0.0/33" is not a network`},
		{text: "fe80::1%eth0", problem: `is not a network`},
		{text: "::ffff:0:0/95", problem: "wider than the IPv4-mapped range"},
		{text: "192.0.2.7:0", problem: `"0" is not a port`},
		{text: "192.0.2.7:", problem: `"" is not a port`},
		{text: "[2001:db8::1]:", problem: `"" is not a port`},
		{text: "192.0.2.7:65536", problem: `"65536" is not a port`},
		{text: "192.0.2.7:+80", problem: `"+80" is not a port`},
		{text: "192.0.2.7:http", problem: `"http" is not a port`},
		{text: "192.0.2.7:80/sctp", problem: `"sctp" is not a protocol with ports`},
		{text: "192.0.2.7/udp", problem: `"192.0.2.7/udp" has a protocol without a port`},
		{text: "2001:db8::/64:443", problem: `"2001:db8::/64:443" is not a network`},
		{text: "[2001:db8::1]443", problem: `is not a network`},
		{text: "[2001:db8::1", problem: `is not a network`},
		{text: "10.0.0.0/8 ", problem: `is not a`},
	} {
		d, remark, err := Parse(c.text)
		switch {
		case c.problem != "":
			if err == nil || !strings.Contains(err.(*Error).Problem, c.problem) || err.(*Error).Hint == "" {
				t.Errorf("%q: %v, %v; want %q", c.text, d, err, c.problem)
			}
		case err != nil:
			t.Errorf("%q: %v", c.text, err)
		case d.String() != c.want || remark != c.remark:
			t.Errorf("%q is %q (%q), want %q (%q)", c.text, d, remark, c.want, c.remark)
		}
	}
}

func parse(t testing.TB, texts ...string) []Destination {
	var out []Destination
	for _, s := range texts {
		d, _, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	return out
}

func TestNormalize(t *testing.T) {
	list := parse(t, "2001:db8::/32", "10.1.0.0/16:443", "10.0.0.0/8", "192.0.2.0/24:53/udp", "192.0.2.7:53/udp", "192.0.2.7:53",
		"192.0.2.7", "192.0.2.7", "[2001:db8:1::]:80", "172.16.0.0/13", "172.24.0.0/13")
	want := []string{"10.0.0.0/8", "172.16.0.0/13", "172.24.0.0/13", "192.0.2.0/24:53/udp", "192.0.2.7", "2001:db8::/32"}
	if got := texts(Normalize(list)); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := fmt.Sprint(Redundant(list)); got != "map[1:2 4:3 5:6 7:6 8:0]" {
		t.Errorf("redundant: %s", got)
	}
}

func texts(list []Destination) []string {
	var out []string
	for _, d := range list {
		out = append(out, d.String())
	}
	return out
}

// What Normalize keeps covers all that went in, none of it covers another, and
// it is the same for every order.
func TestNormalizeLaws(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var list []Destination
		for range random.IntN(40) {
			d := Of(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(random.IntN(3)), byte(random.IntN(3)), byte(random.IntN(4))}), 6+random.IntN(27)))
			if random.IntN(2) == 0 {
				d.Port, d.Protocol = uint16(80+random.IntN(2)), []Protocol{TCP, UDP}[random.IntN(2)]
			}
			list = append(list, d)
		}
		kept := Normalize(list)
		for _, d := range list {
			if !slices.ContainsFunc(kept, func(k Destination) bool { return k.Covers(d) }) {
				t.Fatalf("%s of %v is not in %v", d, list, kept)
			}
		}
		for n, a := range kept {
			for m, b := range kept {
				if n != m && a.Covers(b) {
					t.Fatalf("%s and %s are both in %v", a, b, kept)
				}
			}
		}
		random.Shuffle(len(list), func(a, b int) { list[a], list[b] = list[b], list[a] })
		if again := Normalize(list); !slices.Equal(again, kept) {
			t.Fatalf("%v in another order: %v", kept, again)
		}
	}
}

func TestJSON(t *testing.T) {
	list := parse(t, "10.0.0.0/8", "192.0.2.7:53/udp", "[2001:db8::]:443")
	text, err := json.Marshal(list)
	var back []Destination
	if err != nil || json.Unmarshal(text, &back) != nil || !slices.Equal(list, back) {
		t.Errorf("%s: %v, %v", text, back, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8:1/udp", "[::1]:2", "::ffff:1.2.3.4", "1.2.3.4/5:6/tcp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, _, err := Parse(s)
		if err != nil {
			if _, ours := err.(*Error); !ours {
				t.Fatalf("%q: %T", s, err)
			}
			return
		}
		again, remark, err := Parse(d.String())
		if err != nil || again != d || remark != "" || !d.Valid() {
			t.Fatalf("%q is %q, which is %v (%q, %v)", s, d, again, remark, err)
		}
	})
}
