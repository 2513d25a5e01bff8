package netpolicy

import (
	"errors"
	"net/netip"
)

// EgressTable is the name of an isolated instance's table.
func EgressTable(instance string) string { return "opencode-" + instance }

// LogPrefix begins every kernel log line about a packet of the instance that was blocked.
func LogPrefix(instance string) string { return "opencode-" + instance + "-blocked: " }

// counterPrefix and the instance's name make the name of its counter, in every table.
const counterPrefix = "blocked-"

// marker is the first set of every table.
var marker = Set{Name: markerSet, Type: "uid", Comment: markerComment}

// Egress is the table of one isolated instance: what the instance itself initiates goes to Allow and to loopback,
// all else is logged, counted and blocked. Inbound connections are never affected.
func Egress(p Policy) (Table, error) {
	if err := p.Validate(); err != nil {
		return Table{}, err
	}
	if !p.Isolated {
		return Table{}, errors.New("internal error: egress table of " + p.Name + ", which is not isolated")
	}
	v4, v6 := Normalize(p.Allow)
	egress := []Rule{
		// The direction, not "established": a narrowed policy must also cut flows that the instance opened before.
		note("answers to clients that connected to the instance", Match{"ct direction", "reply"}, accept),
		note("local services; the guard has already had its say", Match{"oifname", `"lo"`}, accept),
		rule(Lookup{"ip daddr", "allow4"}, accept),
		rule(Lookup{"ip6 daddr", "allow6"}, accept),
	}
	return Table{
		Name:     EgressTable(p.Name),
		Counters: []string{counterPrefix + p.Name},
		Sets: []Set{
			marker,
			{Name: "allow4", Type: "ipv4_addr", Flags: "interval", Elements: texts(v4)},
			{Name: "allow6", Type: "ipv6_addr", Flags: "interval", Elements: texts(v6)},
		},
		Chains: []Chain{
			{
				Name:  "output",
				Base:  &Base{Type: "filter", Hook: "output", Priority: 0, Policy: "accept"},
				Rules: []Rule{rule(Match{"meta skuid", uidText(p.UID)}, goTo("egress"))},
			},
			{Name: "egress", Rules: append(egress, block(p)...)},
		},
	}, nil
}

// block are the last rules for a packet of the instance: log within the rate, count always, then drop or reject.
//
// TCP is rejected with a reset: an ICMP error that arrives while connect() still holds the socket is only noted
// (tcp_v6_err in net/ipv6/tcp_ipv6.c), and the connect fails after the first retransmission. Measured: 1.03 s over
// v6 with icmpx alone, at once with a reset. The reset also ends a flow that was open before the policy.
func block(p Policy) []Rule {
	log := rule(Limit{p.logRate(), logBurst}, Log{LogPrefix(p.Name)})
	count := Count{counterPrefix + p.Name}
	if p.OnBlock != Reject {
		return []Rule{log, rule(count, drop)}
	}
	rules := []Rule{log, rule(count)}
	if !p.Filtered {
		rules = append(rules, rule(Match{"meta l4proto", "tcp"}, RejectWith{"tcp reset"}))
	}
	return append(rules, rule(RejectWith{"icmpx admin-prohibited"}))
}

func texts(prefixes []netip.Prefix) []string {
	out := make([]string, len(prefixes))
	for i, p := range prefixes {
		out[i] = prefixText(p)
	}
	return out
}

func rule(statements ...Statement) Rule { return Rule{Statements: statements} }

func note(comment string, statements ...Statement) Rule {
	return Rule{Comment: comment, Statements: statements}
}
