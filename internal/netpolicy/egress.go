package netpolicy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/destination"
)

// SharedTable is the table of all isolated instances in the layout [Shared]. No instance can have the name.
const SharedTable = "opencoded-egress"

// EgressTable is the name of an isolated instance's table in the layout [PerInstance].
func EgressTable(instance string) string { return "opencode-" + instance }

// LogPrefix begins every kernel log line about a packet of the instance that was blocked.
func LogPrefix(instance string) string { return "opencode-" + instance + "-blocked: " }

// ReportPrefix begins those about a packet that [Policy.Report] let pass.
func ReportPrefix(instance string) string { return "opencode-" + instance + "-would-block: " }

// CutPrefix undoes LogPrefix and ReportPrefix: whose packet a kernel log line is about, and whether it was let pass.
// The last result is false for all other lines.
func CutPrefix(line string) (instance string, reported bool, packet string, ok bool) {
	head, packet, found := strings.Cut(line, ": ")
	instance, ours := strings.CutPrefix(head, "opencode-")
	instance, blocked := strings.CutSuffix(instance, "-blocked")
	if !blocked {
		instance, reported = strings.CutSuffix(instance, "-would-block")
	}
	if !found || !ours || !blocked && !reported || !nameRE.MatchString(instance) {
		return "", false, "", false
	}
	return instance, reported, packet, true
}

// These and the instance's name make the names of its counters, in every table.
const (
	counterPrefix = "blocked-"
	reportPrefix  = "would-block-"
)

// marker is the first set of every table.
var marker = Set{Name: markerSet, Type: "uid", Comment: markerComment}

// Layout is how egress rules are spread over tables.
type Layout string

const (
	// PerInstance is a table each: `nft list table inet opencode-NAME` shows one policy. Every packet of the host, of
	// whatever process, passes one base chain a table.
	PerInstance Layout = "per-instance"
	// Shared is one table with a verdict map: a packet costs the same for any number of instances.
	Shared Layout = "shared"
	// Auto is PerInstance for up to AutoTables isolated instances, Shared for more.
	Auto Layout = "auto"
)

// maxInstances is the size of the sets in which packets of every process, or every packet of an instance, are looked up.
// With a known size they are one array; without, a table apart, on a page more. That counts where a system call empties
// the translation buffers: from 1 to 1,000 instances a packet then cost 8 % more, with sizes 4 to 6 (docs/benchmarks.md).
// The array takes 256 kB.
const maxInstances = 1 << 14

// AutoTables is up to how many isolated instances Auto gives a table each.
const AutoTables = 16

// Rules are all policies of a host. Their JSON form is the compiled copy on disk from which tables are restored
// without inventory and daemon; that copy must be root-owned, as everything in it is trusted.
type Rules struct {
	Layout   Layout   `json:"layout"`
	Policies []Policy `json:"policies"`
}

// Tables are the guard, and those of the isolated instances in the order of the policies; none without policies.
func (r Rules) Tables() ([]Table, error) {
	if len(r.Policies) == 0 {
		return nil, nil
	}
	guard, err := Guard(r.Policies)
	if err != nil {
		return nil, err
	}
	tables := []Table{guard}
	isolated := r.isolated()
	if len(isolated) > 0 && r.shared() {
		t, err := SharedEgress(isolated)
		return append(tables, t), err
	}
	for _, p := range isolated {
		t, err := Egress(p)
		if err != nil {
			return nil, err
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// tableNames are those of Tables, without making them.
func (r Rules) tableNames() []string {
	if len(r.Policies) == 0 {
		return nil
	}
	names := []string{GuardTable}
	isolated := r.isolated()
	if len(isolated) > 0 && r.shared() {
		return append(names, SharedTable)
	}
	for _, p := range isolated {
		names = append(names, EgressTable(p.Name))
	}
	return names
}

// TablesOf are those of the tables that an instance needs before it starts.
func (r Rules) TablesOf(name string) ([]Table, error) {
	tables, err := r.Tables()
	return slices.DeleteFunc(tables, func(t Table) bool {
		return t.Name != GuardTable && t.Name != SharedTable && t.Name != EgressTable(name)
	}), err
}

func (r Rules) isolated() []Policy {
	return slices.DeleteFunc(slices.Clone(r.Policies), func(p Policy) bool { return !p.Isolated })
}

func (r Rules) shared() bool {
	return r.Layout == Shared || r.Layout != PerInstance && len(r.isolated()) > AutoTables
}

// Without leaves some instances out, and the layout as it is.
func (r Rules) Without(names []string) Rules {
	out := Rules{Layout: PerInstance}
	if r.shared() {
		out.Layout = Shared
	}
	out.Policies = slices.DeleteFunc(slices.Clone(r.Policies), func(p Policy) bool { return slices.Contains(names, p.Name) })
	return out
}

// Egress is the table of one isolated instance: what the instance itself initiates goes to Allow and to loopback,
// all else is logged, counted and blocked. Inbound connections are never affected.
func Egress(p Policy) (Table, error) {
	if err := p.Validate(); err != nil {
		return Table{}, err
	}
	if !p.Isolated {
		return Table{}, errors.New("internal error: egress table of " + p.Name + ", which is not isolated")
	}
	sets, egress := p.egress("")
	t := Table{
		Name:     EgressTable(p.Name),
		Counters: []string{p.counter()},
		Sets:     append([]Set{marker}, sets...),
		Chains:   []Chain{outputChain(rule(Match{"meta skuid", uidText(p.UID)}, goTo(egress.Name)))},
	}
	if p.NoDNS {
		t.Chains = append(t.Chains, localChain)
	}
	t.Chains = append(t.Chains, egress)
	return t, nil
}

// SharedEgress is one table for all of the policies, which are all isolated. Its one base chain costs the packets of
// others a single look at a map. Two policies with one name, UID or port are an error.
func SharedEgress(policies []Policy) (Table, error) {
	policies = slices.Clone(policies)
	slices.SortFunc(policies, func(a, b Policy) int { return cmp.Compare(a.UID, b.UID) })
	if err := validateAll(policies); err != nil {
		return Table{}, err
	}
	users := Set{Name: "instances", Type: "uid", Size: maxInstances, Map: true}
	t := Table{
		Name:   SharedTable,
		Sets:   []Set{marker},
		Chains: []Chain{outputChain(rule(VMap{"meta skuid", users.Name}))},
	}
	if slices.ContainsFunc(policies, func(p Policy) bool { return p.NoDNS }) {
		t.Chains = append(t.Chains, localChain)
	}
	for _, p := range policies {
		if !p.Isolated {
			return Table{}, errors.New("internal error: egress rules of " + p.Name + ", which is not isolated")
		}
		sets, egress := p.egress("-" + p.Name)
		users.Elements = append(users.Elements, uidText(p.UID)+" : goto "+egress.Name)
		t.Sets = append(t.Sets, sets...)
		t.Chains = append(t.Chains, egress)
		t.Counters = append(t.Counters, p.counter())
	}
	t.Sets = append(t.Sets, users)
	slices.Sort(t.Counters)
	return t, nil
}

func outputChain(r Rule) Chain {
	return Chain{Name: "output", Base: &Base{Type: "filter", Hook: "output", Priority: 0, Policy: "accept"}, Rules: []Rule{r}}
}

// localChain is for instances that may not ask this host to resolve.
var localChain = Chain{Name: "local", Rules: []Rule{
	note("what Allow does not name is blocked", Match{"udp dport", "53"}, back),
	rule(Match{"tcp dport", "53"}, back),
	rule(accept),
}}

// egress are the sets and the chain of one instance, whose names end in a suffix where others have a part in the table.
func (p Policy) egress(suffix string) ([]Set, Chain) {
	local := note("local services; the guard has already had its say", Match{"oifname", `"lo"`}, accept)
	if p.NoDNS {
		local = note("local services, but for those that resolve names", Match{"oifname", `"lo"`}, jump(localChain.Name))
	}
	rules := []Rule{
		// The direction, not "established": a narrowed policy must also cut flows that the instance opened before.
		note("answers to clients that connected to the instance", Match{"ct direction", "reply"}, accept),
		local,
	}
	var sets []Set
	for _, s := range p.allowed() {
		if len(s.Elements) > 0 {
			s.Name += suffix
			sets = append(sets, s.Set)
			rules = append(rules, rule(Lookup{s.match, s.Name}, accept))
		}
	}
	return sets, Chain{Name: "egress" + suffix, Rules: append(rules, block(p)...)}
}

// allowSet is a set with what of a packet is looked up in it.
type allowSet struct {
	Set
	match string
}

// allowed are the destinations of a policy by what they consist of.
func (p Policy) allowed() []allowSet {
	set := func(name, kind, match string) allowSet {
		return allowSet{Set{Name: name, Type: kind, Flags: "interval"}, match}
	}
	sets := []allowSet{
		set("allow4", "ipv4_addr", "ip daddr"),
		set("allow6", "ipv6_addr", "ip6 daddr"),
		set("tcp4", "ipv4_addr . inet_service", "ip daddr . tcp dport"),
		set("tcp6", "ipv6_addr . inet_service", "ip6 daddr . tcp dport"),
		set("udp4", "ipv4_addr . inet_service", "ip daddr . udp dport"),
		set("udp6", "ipv6_addr . inet_service", "ip6 daddr . udp dport"),
	}
	for _, d := range destination.Normalize(p.Allow) {
		n, text := map[destination.Protocol]int{"": 0, destination.TCP: 2, destination.UDP: 4}[d.Protocol], prefixText(d.Network)
		if d.Network.Addr().Is6() {
			n++
		}
		if d.Port != 0 {
			text = fmt.Sprintf("%s . %d", text, d.Port)
		}
		sets[n].Elements = append(sets[n].Elements, text)
	}
	return sets
}

// block are the last rules for a packet of the instance: log within the rate, count always, then drop or reject.
//
// TCP is rejected with a reset: an ICMP error that arrives while connect() still holds the socket is only noted
// (tcp_v6_err in net/ipv6/tcp_ipv6.c), and the connect fails after the first retransmission. Measured: 1.03 s over
// v6 with icmpx alone, at once with a reset.
//
// A connection that was open before the policy narrowed is reset even where packets are dropped. What its socket has
// not sent yet would get out otherwise: once the program has closed it, the kernel goes on sending by itself, with
// nobody's user id on the packets (sock_orphan, __tcp_close in net/ipv4/tcp.c). Measured: all of 70 kB written after the
// change. The first blocked packet resets, and the rest is gone with the socket. What is left: a peer that has shut its
// window, and a program that closes before the kernel probes it, 0.2 s to 2 minutes; then the rest goes out once
// the window opens (measured: 640 kB). systemd's filter knows such packets by their control group; it would drop the
// reset, so that is left out beside it.
func block(p Policy) []Rule {
	log := func(prefix string) Rule { return rule(Limit{p.logRate(), logBurst}, Log{prefix}) }
	count, tcp, reset := Count{p.counter()}, Match{"meta l4proto", "tcp"}, RejectWith{"tcp reset"}
	switch {
	case p.Report:
		return []Rule{log(ReportPrefix(p.Name)), rule(count, accept)}
	case p.OnBlock != Reject && p.Filtered:
		return []Rule{log(LogPrefix(p.Name)), rule(count, drop)}
	case p.OnBlock != Reject:
		return []Rule{log(LogPrefix(p.Name)), rule(count), note("open since before", tcp, State{"established"}, reset), rule(drop)}
	}
	rules := []Rule{log(LogPrefix(p.Name)), rule(count)}
	if !p.Filtered {
		rules = append(rules, rule(tcp, reset))
	}
	return append(rules, rule(RejectWith{"icmpx admin-prohibited"}))
}

func (p Policy) counter() string {
	if p.Report {
		return reportPrefix + p.Name
	}
	return counterPrefix + p.Name
}

func rule(statements ...Statement) Rule { return Rule{Statements: statements} }

func note(comment string, statements ...Statement) Rule {
	return Rule{Comment: comment, Statements: statements}
}
