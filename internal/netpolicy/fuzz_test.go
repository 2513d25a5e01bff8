package netpolicy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func parseAll(text string) []netip.Prefix {
	var out []netip.Prefix
	for _, field := range strings.Fields(text) {
		if p, err := netip.ParsePrefix(field); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// Normalised prefixes cover exactly what was given: each is one of the inputs, none contains another, they are
// sorted, and no input is lost.
func FuzzNormalize(f *testing.F) {
	for _, seed := range []string{"", "10.0.0.0/8 10.1.0.0/16", "0.0.0.0/0 ::/0", "::ffff:1.2.3.4/100 1.2.3.4/1",
		"255.255.255.255/32 255.255.255.254/32", "ffff::/16 ::1/128 ::/127", "::ffff:0:0/90"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		given := parseAll(text)
		for i, p := range given {
			given[i] = normal(p)
		}
		v4, v6 := Normalize(given)
		for i, p := range append(v4, v6...) {
			if p.Addr().Is4() != (i < len(v4)) {
				t.Errorf("%v is in the wrong family", p)
			}
			if !slices.Contains(given, p) {
				t.Errorf("%v was not given", p)
			}
			if back, err := parseSpan(prefixText(p)); err != nil || back != prefixSpan(p) || back.String() != prefixText(p) {
				t.Errorf("%v reads back as %v, %v", p, back, err)
			}
		}
		for _, list := range [][]netip.Prefix{v4, v6} {
			for i := 1; i < len(list); i++ {
				if list[i].Overlaps(list[i-1]) || list[i].Addr().Less(list[i-1].Addr()) {
					t.Errorf("%v follows %v", list[i], list[i-1])
				}
			}
		}
		for _, g := range given {
			if !slices.ContainsFunc(append(v4, v6...), func(p netip.Prefix) bool { return p.Overlaps(g) && p.Bits() <= g.Bits() }) {
				t.Errorf("%v is lost", g)
			}
		}
	})
}

// Whatever a policy holds, it is refused or becomes tables whose text has balanced blocks and no line that is not
// nft's, and whose rules and elements read back as they were.
func FuzzTables(f *testing.F) {
	f.Add("web", uint32(62001), uint16(8080), true, "10.0.0.0/8 2001:db8::/32", "drop", "5/minute")
	f.Add("a{}\n", uint32(0), uint16(0), false, "0.0.0.0/0", "reject", "1/day")
	f.Add("a-b", uint32(1), uint16(1), false, "169.254.169.254/32 ::/0", "reject", "1000000/second")
	f.Fuzz(func(t *testing.T, name string, uid uint32, port uint16, locked bool, allow, onBlock, rate string) {
		p := Policy{Name: name, UID: uid, Port: port, Locked: locked, Isolated: true, Allow: parseAll(allow), OnBlock: OnBlock(onBlock)}
		p.LogRate, _ = ParseRate(rate)
		egress, err := Egress(p)
		guard, err2 := Guard([]Policy{p})
		if (err == nil) != (err2 == nil) || (err == nil) != (p.Validate() == nil) {
			t.Fatalf("%v, %v, %v", err, err2, p.Validate())
		}
		if err != nil {
			return
		}
		for _, table := range []Table{egress, guard} {
			checkDecodes(t, table)
			checkText(t, table.String())
			if diff := Diff(table, table); diff != "" {
				t.Errorf("differs from itself: %s", diff)
			}
			if tx := replacement(&table, table, false); tx.err != nil || tx.String() != "" {
				t.Errorf("a batch to change nothing: %v\n%s", tx.err, tx)
			}
		}
	})
}

func checkText(t *testing.T, text string) {
	depth := 0
	for line := range strings.Lines(text) {
		body := strings.TrimSuffix(strings.TrimLeft(line, "\t"), "\n")
		if body == "}" {
			depth--
		}
		if indent := strings.Count(line, "\t"); body != "" && indent != depth {
			t.Errorf("%d tabs at depth %d: %q", indent, depth, line)
		}
		if strings.HasSuffix(body, " {") {
			depth++
		}
		if strings.ContainsFunc(body, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("control or foreign character: %q", line)
		}
	}
	if depth != 0 {
		t.Errorf("%d blocks left open:\n%s", depth, text)
	}
}
