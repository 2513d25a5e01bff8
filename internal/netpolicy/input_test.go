package netpolicy

import (
	"fmt"
	"slices"
	"testing"
)

// Chains on input that drop are found in every family, with the comments of their tables; others are not.
func TestDroppingInputs(t *testing.T) {
	n := newNetNS(t)
	n.nft(`
table inet filter {
	chain more {
		tcp dport 8787 accept comment "opencoded: web"
	}
	chain input { type filter hook input priority filter; policy drop;
		tcp dport 22 accept comment "ssh"
		jump more
	}
	chain output { type filter hook output priority filter; policy drop; }
}
table ip raised {
	chain early { type filter hook input priority -300; policy drop; }
}
table ip6 filter {
	chain INPUT { type filter hook input priority 0; policy drop; }
}
table ip open {
	chain INPUT { type filter hook input priority 0; policy accept; }
}
table arp filter {
	chain input { type filter hook input priority 0; policy drop; }
}
`)
	got, err := n.kernel.DroppingInputs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"{inet filter input [opencoded: web ssh]}", "{ip raised early []}", "{ip6 filter INPUT []}"}
	var shown []string
	for _, c := range got {
		type plain InputChain // without its String
		shown = append(shown, fmt.Sprintf("%v", plain(c)))
	}
	if !slices.Equal(shown, want) {
		t.Errorf("%q, want %q", shown, want)
	}
}

// User data that another program wrote need not be what libnftnl writes.
func TestRuleComment(t *testing.T) {
	for data, want := range map[string]string{
		"":                        "",
		"\x00":                    "",
		"\x00\x04ssh\x00":         "ssh",
		"\x00\xffssh":             "",
		"\x01\x02xx\x00\x02s\x00": "s",
		"\x01\x00\x00":            "",
	} {
		if got := ruleComment([]byte(data)); got != want {
			t.Errorf("%q: %q, want %q", data, got, want)
		}
	}
}
