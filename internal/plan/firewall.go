package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/netpolicy"
)

// The programs that open a port when they are asked.
const (
	Firewalld = "firewalld"
	UFW       = "ufw"
)

// Firewall is a program that manages the packet filter of this host.
type Firewall struct {
	Manager  string
	Active   bool                  // it filters; an inactive one keeps what it holds and gets nothing new
	Zone     string                // of firewalld, where nothing else is said
	Zones    map[netip.Addr]string // of firewalld, by an address of an interface that is in a zone
	Openings []Opening             // opencoded's, of all instances
	Others   []string              // of ufw: the rules of others, as `ufw show added` prints them
}

// Opening is one rule in a firewall that lets clients reach an instance.
type Opening struct {
	Manager  string `json:"manager"`
	Instance string `json:"instance"`
	Zone     string `json:"zone,omitempty"` // of firewalld
	Rule     string `json:"rule"`           // as the manager prints it, without the comment of ufw
	Saved    bool   `json:"-"`              // it outlives a reload
	Loaded   bool   `json:"-"`              // it is in force
	Idle     bool   `json:"-"`              // of a wanted one: the manager is inactive
}

// Place is where the rule stands.
func (o Opening) Place() string {
	if o.Zone == "" {
		return o.Manager
	}
	return o.Manager + " zone " + o.Zone
}

func (o Opening) String() string { return o.Place() + ": " + o.Rule }

func (o Opening) same(other Opening) bool {
	return o.Manager == other.Manager && o.Zone == other.Zone && o.Rule == other.Rule
}

// FirewallComment is by what rules in ufw and nft are known to be for an instance.
func FirewallComment(name string) string { return commentPrefix + name }

const commentPrefix = "opencoded: "

// CommentInstance is the instance that a comment names; "" if it is somebody else's.
func CommentInstance(comment string) string {
	name, ok := strings.CutPrefix(comment, commentPrefix)
	if !ok {
		return ""
	}
	return name
}

// openings are the rules that open the port of an instance, one for each
// firewall of the host, and what has to be said where that is not enough.
func (b *builder) openings() {
	i := b.i
	if !i.OpenFirewall || i.Listen.Address.IsLoopback() {
		return
	}
	for _, f := range b.facts.Firewalls {
		o := f.opening(i)
		if other := f.other(o.Rule); other != "" {
			if !strings.HasPrefix(other, "allow ") && !strings.HasPrefix(other, "limit ") {
				b.warnFirewall("delete that rule, and apply; or leave out open_firewall",
					"stays closed: ufw has the rule %q of somebody else, which opencoded would have to replace", other)
			}
			continue // ufw keeps one rule a port: it is open already
		}
		b.t.Openings = append(b.t.Openings, o)
	}
	b.dropped()
}

// opening is the rule that a firewall would hold for an instance.
func (f Firewall) opening(i *instance.Instance) Opening {
	o := Opening{Manager: f.Manager, Instance: i.Name, Saved: true, Loaded: true, Idle: !f.Active}
	if f.Manager == UFW {
		o.Rule = ufwRule(i.Listen)
		return o
	}
	o.Rule, o.Zone = richRule(i), f.Zone
	if zone := f.Zones[i.Listen.Address]; zone != "" {
		o.Zone = zone
	}
	return o
}

// ufwRule is in the words of `ufw show added`. ufw prints rules for one family
// and for both alike, so an unspecified address means both.
func ufwRule(l instance.Listen) string {
	if l.Address.IsUnspecified() {
		return fmt.Sprintf("allow %d/tcp", l.Port)
	}
	return fmt.Sprintf("allow to %s port %d proto tcp", l.Address, l.Port)
}

// richRule is a rule of firewalld in firewalld.richlanguage(5), exactly as
// firewalld prints it. It knows no comments: the prefix of a log line says whose
// the rule is. 2/d is the least that firewalld takes.
func richRule(i *instance.Instance) string {
	var s strings.Builder
	s.WriteString("rule")
	a := i.Listen.Address
	switch {
	case a.Is4():
		s.WriteString(` family="ipv4"`)
	case !a.IsUnspecified(): // [::] takes IPv4 too
		s.WriteString(` family="ipv6"`)
	}
	if !a.IsUnspecified() {
		fmt.Fprintf(&s, ` destination address="%s"`, a)
	}
	fmt.Fprintf(&s, ` port port="%d" protocol="tcp" log prefix="%s" level="debug" limit value="2/d" accept`, i.Listen.Port, openedPrefix(i.Name))
	return s.String()
}

func openedPrefix(name string) string { return "opencode-" + name + "-opened: " }

// RichRuleInstance is the instance that a rule of firewalld is for; "" if the
// rule is somebody else's.
func RichRuleInstance(rule string) string {
	_, rest, ok := strings.Cut(rule, ` log prefix="opencode-`)
	name, _, found := strings.Cut(rest, `-opened: "`)
	if !ok || !found || strings.Contains(name, `"`) {
		return ""
	}
	return name
}

// other is a rule of somebody else that ufw takes for the same one: it compares
// neither action nor comment nor logging, and would replace the one by the other.
func (f Firewall) other(rule string) string {
	n := slices.IndexFunc(f.Others, func(o string) bool { return ufwMatch(o) == ufwMatch(rule) })
	if n < 0 {
		return ""
	}
	return f.Others[n]
}

func ufwMatch(rule string) string {
	words := strings.Fields(rule)[1:]
	if len(words) > 1 && (words[0] == "log" || words[0] == "log-all") {
		words = words[1:]
	}
	return strings.Join(words, " ")
}

// dropped warns of input chains that would drop the clients and that no active
// manager answers for. What their rules mean is not known, but for one that bears
// opencoded's comment.
func (b *builder) dropped() {
	l := b.i.Listen
	for _, c := range b.facts.DroppingInputs {
		if b.managed(c) || c.Family == "ip" && l.Address.Is6() && !l.Address.IsUnspecified() || c.Family == "ip6" && l.Address.Is4() ||
			slices.Contains(c.Comments, FirewallComment(b.i.Name)) {
			continue
		}
		destination := ""
		if !l.Address.IsUnspecified() {
			family := map[bool]string{true: "ip", false: "ip6"}[l.Address.Is4()]
			destination = fmt.Sprintf("%s daddr %s ", family, l.Address)
		}
		b.warnFirewall(fmt.Sprintf("nft add rule %s %stcp dport %d accept comment '\"%s\"'; by the comment opencoded knows that it is there",
			c, destination, l.Port, FirewallComment(b.i.Name)),
			"neither firewalld nor ufw manages table %s %s, whose chain %s drops what it does not accept", c.Family, c.Table, c.Chain)
	}
}

// managed reports whether a table is that of an active manager.
func (b *builder) managed(c netpolicy.InputChain) bool {
	return slices.ContainsFunc(b.facts.Firewalls, func(f Firewall) bool {
		switch {
		case !f.Active:
			return false
		case f.Manager == UFW: // through iptables
			return c.Table == "filter" && c.Family != "inet"
		default:
			return c.Table == "firewalld"
		}
	})
}

func (b *builder) warnFirewall(hint, format string, args ...any) {
	b.problems.Add(document.Warning, b.i.At("open_firewall"), hint, "instances.%s.open_firewall: %s", b.i.Name, fmt.Sprintf(format, args...))
}

// openings compares the wanted openings of an instance with those that are there.
// The old go first: ufw takes what differs only in its words for the same rule.
func (d *differ) openings(name string, want []Opening) {
	have := d.have.Openings[name]
	for _, h := range have {
		if !slices.ContainsFunc(want, h.same) {
			d.add(Step{Verb: Remove, Kind: KindFirewall, Name: h.Place(), Opening: &h, Diff: "-" + h.Rule + "\n"})
		}
	}
	for _, w := range want {
		n := slices.IndexFunc(have, w.same)
		s := Step{Verb: Change, Kind: KindFirewall, Name: w.Place(), Opening: &w, Diff: "+" + w.Rule + "\n"}
		switch {
		case w.Idle:
			continue
		case n < 0:
			s.Verb = Create
		case !have[n].Saved:
			s.Why = "lost with the next reload"
		case !have[n].Loaded:
			s.Why = "not in force"
		default:
			continue
		}
		d.add(s)
	}
}
