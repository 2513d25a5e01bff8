package netpolicy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/opencoded/opencoded/internal/destination"
)

// Packet is one that an instance itself wants to send.
type Packet struct {
	To       netip.Addr
	Port     uint16
	Protocol destination.Protocol // "" is one without ports, such as ICMP
	Local    bool                 // the address is one of this host's, and the packet leaves by loopback
}

// Outcome is what happens to a packet.
type Outcome string

// The outcomes.
const (
	Passes   Outcome = "passes"
	Blocked  Outcome = "blocked"
	Reported Outcome = "reported" // passes, and is logged and counted, see [Policy.Report]
)

// Decision is an outcome and what decides it.
type Decision struct {
	Outcome Outcome
	Table   string // "" when no rule decides
	Why     string
}

// ErrNoPolicy means that there is no instance of that name.
var ErrNoPolicy = errors.New("no egress policy")

// Decide says what the tables do to a packet of an instance, without asking the kernel.
func (r Rules) Decide(name string, packet Packet) (Decision, error) {
	n := slices.IndexFunc(r.Policies, func(p Policy) bool { return p.Name == name })
	if n < 0 {
		return Decision{}, fmt.Errorf("%w for instance %q", ErrNoPolicy, name)
	}
	p := r.Policies[n]
	packet.To = packet.To.Unmap()
	if why := r.guarded(p, packet); why != "" {
		return Decision{Blocked, GuardTable, why}, nil
	}
	if !p.Isolated {
		return Decision{Passes, "", "network_isolation is off"}, nil
	}
	table := EgressTable(name)
	if r.shared() {
		table = SharedTable
	}
	outcome, why := p.egressOutcome(packet)
	return Decision{outcome, table, why}, nil
}

// guarded is why the guard blocks a packet; "" when it does not.
func (r Rules) guarded(p Policy, packet Packet) string {
	if packet.Protocol == destination.TCP && packet.Local {
		for _, other := range r.Policies {
			switch {
			case other.Port != packet.Port || other.Name == p.Name && !p.Locked:
			case other.Name == p.Name:
				return "its own server, which its configuration lock keeps it from"
			default:
				return "the server of instance " + other.Name
			}
		}
	}
	if slices.Contains(metadata, packet.To) && !slices.Contains(p.Metadata(), packet.To) && (packet.Protocol == "" || packet.Port != 53) {
		return "the cloud's metadata service, which no entry of the allowlist names"
	}
	return ""
}

func (p Policy) egressOutcome(packet Packet) (Outcome, string) {
	closed := p.NoDNS && packet.Protocol != "" && packet.Port == 53
	if packet.Local && !closed {
		return Passes, "a local service"
	}
	sent := destination.Of(netip.PrefixFrom(packet.To, packet.To.BitLen()))
	sent.Protocol = packet.Protocol
	if packet.Protocol != "" {
		sent.Port = packet.Port
	}
	for _, d := range destination.Normalize(p.Allow) {
		if d.Covers(sent) {
			return Passes, "allowed by " + d.String()
		}
	}
	why := "no entry of the allowlist covers it"
	if packet.Local {
		why = "network_isolation.dns is false, and " + why
	}
	if p.Report {
		return Reported, why
	}
	return Blocked, why
}
