package blocked

import (
	"strings"
	"testing"
	"unicode"
)

// Lines as the kernel writes them (6.1; the MAC field stands only in lines about input).
const (
	tcp4    = "opencode-web-blocked: IN= OUT=eth0 SRC=10.0.0.5 DST=198.51.100.2 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=12345 DF PROTO=TCP SPT=40000 DPT=443 WINDOW=64240 RES=0x00 SYN URGP=0 "
	report6 = "opencode-web-would-block: IN= OUT=eth0 SRC=2001:0db8:0000:0000:0000:0000:0000:0001 DST=2001:0db8:0002:0000:0000:0000:0000:0002 LEN=54 TC=0 HOPLIMIT=64 FLOWLBL=658395 PROTO=UDP SPT=5353 DPT=53 LEN=14 UID=990 GID=990 "
	ping4   = "opencode-web-blocked: IN= OUT=eth0 SRC=10.0.0.5 DST=192.0.2.9 LEN=84 TOS=0x00 PREC=0x00 TTL=64 ID=1 DF PROTO=ICMP TYPE=8 CODE=0 ID=7 SEQ=1 "
	quoted4 = "opencode-web-blocked: IN= OUT=eth0 SRC=10.0.0.5 DST=192.0.2.9 LEN=88 TOS=0x00 PREC=0xC0 TTL=64 ID=1 PROTO=ICMP TYPE=3 CODE=3 " +
		"[SRC=192.0.2.9 DST=203.0.113.1 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=2 PROTO=UDP SPT=9 DPT=99 LEN=40 ] "
	quotedFirst = "opencode-web-blocked: IN= OUT=eth0 [SRC=192.0.2.9 DST=203.0.113.1 PROTO=ICMP [DST=203.0.113.2 PROTO=UDP DPT=1 ] DPT=2 ] DST=192.0.2.9 PROTO=TCP DPT=3"
	options     = "opencode-web-blocked: IN= OUT=lo SRC=127.0.0.1 DST=127.0.0.1 LEN=60 OPT (DST=1.1.1.1) PROTO=TCP SPT=1 DPT=8702 OPT (0204FFD7) "
	fragment    = "opencode-web-blocked: IN= OUT=eth0 SRC=10.0.0.5 DST=192.0.2.9 LEN=60 FRAG:64 PROTO=TCP "
	incomplete  = "opencode-web-blocked: IN= OUT=eth0 SRC=10.0.0.5 DST=192.0.2.9 LEN=60 PROTO=UDP INCOMPLETE [4 bytes] MARK=0x1"
	gre         = "opencode-web-blocked: IN= OUT=eth0 SRC=10.0.0.5 DST=192.0.2.9 LEN=60 PROTO=47 "
	ping6       = "opencode-web-blocked: IN= OUT=eth0 SRC=fe80::1 DST=ff02::2 LEN=48 TC=0 HOPLIMIT=255 FLOWLBL=0 PROTO=ICMPv6 TYPE=133 CODE=0 "
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ line, want, entry string }{
		{tcp4, "web blocked tcp 198.51.100.2:443", "198.51.100.2:443"},
		{report6, "web would block udp [2001:db8:2::2]:53", "[2001:db8:2::2]:53/udp"},
		{ping4, "web blocked icmp 192.0.2.9 type 8/0", "192.0.2.9"},
		{quoted4, "web blocked icmp 192.0.2.9 type 3/3", "192.0.2.9"},
		{quotedFirst, "web blocked tcp 192.0.2.9:3", "192.0.2.9:3"},
		{options, "web blocked tcp 127.0.0.1:8702 local", "127.0.0.1:8702"},
		{fragment, "web blocked tcp 192.0.2.9", "192.0.2.9"},
		{incomplete, "web blocked udp 192.0.2.9", "192.0.2.9"},
		{gre, "web blocked 47 192.0.2.9", "192.0.2.9"},
		{ping6, "web blocked icmpv6 ff02::2 type 133/0", "ff02::2"},
	} {
		got, ours, err := Parse(c.line)
		text := got.Instance + " " + got.Verdict() + " " + got.String()
		if got.Local {
			text += " local"
		}
		if err != nil || !ours || text != c.want || got.Destination().String() != c.entry {
			t.Errorf("%s\nis %q, entry %s, %v, want %q, entry %s", c.line, text, got.Destination(), err, c.want, c.entry)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for line, why := range map[string]string{
		"opencode-web-blocked: ":                                       "destination",
		"opencode-web-blocked: DST=192.0.2.300 PROTO=TCP":              "destination",
		"opencode-web-blocked: DST=fe80::1%eth0 PROTO=TCP":             "destination",
		"opencode-web-blocked: DST=192.0.2.3":                          "protocol",
		"opencode-web-blocked: DST=192.0.2.3 PROTO=\x1b]0;x":           "protocol",
		"opencode-web-blocked: DST=192.0.2.3 PROTO=TCP DPT=70000":      "port",
		"opencode-web-blocked: DST=192.0.2.3 PROTO=TCP DPT=":           "port",
		"opencode-web-blocked: [SRC=1.1.1.1 DST=192.0.2.3 PROTO=TCP ]": "destination",
	} {
		if _, ours, err := Parse(line); !ours || err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, %v, want a complaint about the %s", line, ours, err, why)
		}
	}
	for _, line := range []string{"", "IN= OUT=eth0 DST=192.0.2.3 PROTO=TCP DPT=1", "x" + tcp4, "opencode-web-blocked:" + tcp4} {
		if _, ours, err := Parse(line); ours || err != nil {
			t.Errorf("%q is taken for ours: %v", line, err)
		}
	}
}

// Whatever the line, it is not ours, an error, or a target that prints without harm
// and has an entry that the allowlist takes.
func FuzzParse(f *testing.F) {
	for _, line := range []string{tcp4, report6, ping4, quoted4, quotedFirst, options, fragment, incomplete, gre, ping6} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got, ours, err := Parse(line)
		if !ours || err != nil {
			if got != (Target{}) {
				t.Errorf("refused, but %+v", got)
			}
			return
		}
		if text := got.Instance + got.String(); strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q does something to a terminal", text)
		}
		checkTOML(t, []Group{{Target: got, Logged: 1}})
	})
}
