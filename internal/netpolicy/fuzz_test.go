package netpolicy

import (
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/destination"
)

func parseAll(text string) []destination.Destination {
	var out []destination.Destination
	for field := range strings.FieldsSeq(text) {
		if d, _, err := destination.Parse(field); err == nil {
			out = append(out, d)
		}
	}
	return out
}

// Whatever a policy holds, it is refused or becomes tables whose text has balanced blocks and no line that is not
// nft's, and whose rules and elements read back as they were.
func FuzzTables(f *testing.F) {
	f.Add("web", uint32(62001), uint16(8080), true, "10.0.0.0/8 2001:db8::/32", "drop", "5/minute")
	f.Add("web", uint32(62001), uint16(8080), true, "10.0.0.0/8:443 10.1.0.0/16:53/udp [2001:db8::/32]:1 ::", "drop", "5/minute")
	f.Add("a{}\n", uint32(0), uint16(0), false, "0.0.0.0/0", "reject", "1/day")
	f.Add("a-b", uint32(1), uint16(1), false, "169.254.169.254/32 ::/0", "reject", "1000000/second")
	f.Fuzz(func(t *testing.T, name string, uid uint32, port uint16, locked bool, allow, onBlock, rate string) {
		p := Policy{Name: name, UID: uid, Port: port, Locked: locked, Isolated: true, Allow: parseAll(allow), OnBlock: OnBlock(onBlock)}
		p.LogRate, _ = ParseRate(rate)
		p.Report, p.NoDNS = uid%2 == 0, port%2 == 0
		egress, err := Egress(p)
		shared, err3 := SharedEgress([]Policy{p})
		guard, err2 := Guard([]Policy{p})
		if (err == nil) != (err2 == nil) || (err == nil) != (err3 == nil) || (err == nil) != (p.Validate() == nil) {
			t.Fatalf("%v, %v, %v", err, err2, p.Validate())
		}
		if err != nil {
			return
		}
		for _, table := range []Table{egress, shared, guard} {
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
