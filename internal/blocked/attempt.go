// Package blocked makes of kernel log lines about blocked packets what an operator
// wants to know: who tried to reach what, how often, and which entries of
// outbound_allow_cidrs would allow it. It reads nothing; internal/host brings the
// lines, the sockets and /etc/hosts.
package blocked

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/opencoded/opencoded/internal/destination"
	"github.com/opencoded/opencoded/internal/netpolicy"
)

// Target is what attempts have in common that are counted together.
type Target struct {
	Instance string     `json:"instance"`
	Reported bool       `json:"reported"` // let pass in report mode
	Local    bool       `json:"local"`    // an address of this host: the packet left through lo
	Address  netip.Addr `json:"address"`
	Protocol string     `json:"protocol"`       // lower case; a number where the kernel has no name for it
	Port     uint16     `json:"port,omitempty"` // 0: the protocol has none, or the packet did not hold it
	ICMP     string     `json:"icmp,omitempty"` // "TYPE/CODE"
}

// Attempt is one logged packet.
type Attempt struct {
	Target
	Time time.Time `json:"time"`
}

// Parse reads the message of a kernel log entry: a prefix of netpolicy, then the
// format of net/netfilter/nf_log_syslog.c. Lines about anything else are not ours,
// which is no error.
func Parse(line string) (t Target, ours bool, err error) {
	instance, reported, packet, ours := netpolicy.CutPrefix(line)
	if !ours {
		return Target{}, false, nil
	}
	f := fields(packet)
	t = Target{Instance: instance, Reported: reported, Local: f["OUT"] == "lo", Protocol: strings.ToLower(f["PROTO"])}
	t.Address, err = netip.ParseAddr(f["DST"])
	if err != nil || t.Address.Zone() != "" {
		return Target{}, true, fmt.Errorf("the destination of a blocked packet is %q", f["DST"])
	}
	t.Address = t.Address.Unmap()
	if !isProtocol(t.Protocol) {
		return Target{}, true, fmt.Errorf("the protocol of a blocked packet is %q", f["PROTO"])
	}
	if t.port() {
		// Missing in a fragment, and where the kernel says INCOMPLETE.
		if text, found := f["DPT"]; found {
			n, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				return Target{}, true, fmt.Errorf("the port of a blocked packet is %q", text)
			}
			t.Port = uint16(n)
		}
	}
	if strings.HasPrefix(t.Protocol, "icmp") {
		kind, err1 := strconv.ParseUint(f["TYPE"], 10, 8)
		code, err2 := strconv.ParseUint(f["CODE"], 10, 8)
		if err1 == nil && err2 == nil {
			t.ICMP = fmt.Sprintf("%d/%d", kind, code)
		}
	}
	return t, true, nil
}

// fields are the KEY=VALUE words of a packet, the first of each key. What stands in
// brackets is the packet that an ICMP error quotes, or options.
func fields(packet string) map[string]string {
	out := map[string]string{}
	depth := 0
	for word := range strings.FieldsSeq(packet) {
		opened := strings.Count(word, "[") + strings.Count(word, "(")
		if key, value, ok := strings.Cut(word, "="); ok && depth == 0 && opened == 0 {
			if _, again := out[key]; !again {
				out[key] = value
			}
		}
		depth = max(0, depth+opened-strings.Count(word, "]")-strings.Count(word, ")"))
	}
	return out
}

func isProtocol(s string) bool {
	return s != "" && len(s) <= 16 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// port reports whether entries for the protocol can name a port.
func (t Target) port() bool {
	return t.Protocol == string(destination.TCP) || t.Protocol == string(destination.UDP)
}

// Destination is the entry that covers this target and, where the protocol has
// ports, nothing else.
func (t Target) Destination() destination.Destination {
	d := destination.Of(netip.PrefixFrom(t.Address, t.Address.BitLen()))
	if t.port() && t.Port != 0 {
		d.Port, d.Protocol = t.Port, destination.Protocol(t.Protocol)
	}
	return d
}

// String is the target without its instance: "tcp 192.0.2.7:443", "icmp 192.0.2.7 type 8/0".
func (t Target) String() string {
	text := t.Address.String()
	if t.Port != 0 {
		text = netip.AddrPortFrom(t.Address, t.Port).String()
	}
	if t.ICMP != "" {
		text += " type " + t.ICMP
	}
	return t.Protocol + " " + text
}

// Verdict says what became of the packets.
func (t Target) Verdict() string {
	if t.Reported {
		return "would block"
	}
	return "blocked"
}
