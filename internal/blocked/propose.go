package blocked

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/opencoded/opencoded/internal/destination"
	"github.com/opencoded/opencoded/internal/netpolicy"
)

// Neighbours is from how many addresses on, with the same port and protocol, their
// network is proposed instead of each of them.
const Neighbours = 4

// Wider networks than these are never proposed, whatever the allowlist names already.
const (
	widest4 = 16
	widest6 = 48
)

// Entry is a line of an allowlist.
type Entry struct {
	Destination destination.Destination `json:"entry"`
	Present     bool                    `json:"present"`             // in the inventory already
	Refused     string                  `json:"refused,omitempty"`   // why it is not proposed
	Logged      int                     `json:"logged"`              // packets that it covers
	Addresses   []netip.Addr            `json:"addresses,omitempty"` // that were tried, sorted

	portless string // a protocol for whose sake the entry names no port
	local    bool
}

// Propose gives the entries that would allow all groups of an instance: those of its
// present allowlist in their order, then new ones, then those that are refused. An
// address becomes its network when Neighbours of it were tried: the /24 or /64, else a
// network that the present entries name.
func Propose(groups []Group, present []destination.Destination) []Entry {
	type key struct {
		destination.Destination
		refused string
	}
	tried := map[key]*Entry{}
	for _, g := range groups {
		e := Entry{Destination: g.Destination(), Refused: refusal(g.Target), Logged: g.Logged, Addresses: []netip.Addr{g.Address}, local: g.Local}
		if !g.port() {
			e.portless = g.Protocol
		}
		if same := tried[key{e.Destination, e.Refused}]; same != nil {
			same.add(e)
		} else {
			tried[key{e.Destination, e.Refused}] = &e
		}
	}
	var entries, single, refused []Entry
	for _, d := range present {
		entries = append(entries, Entry{Destination: d, Present: true})
	}
	for _, e := range tried {
		if e.Refused == "" {
			single = append(single, *e)
		} else {
			refused = append(refused, *e)
		}
	}
	list := append(fold(append(entries, order(widen(single, present))...)), order(refused)...)
	for n := range list {
		slices.SortFunc(list[n].Addresses, netip.Addr.Compare)
		list[n].Addresses = slices.Compact(list[n].Addresses)
	}
	return list
}

func (e *Entry) add(o Entry) {
	e.Logged += o.Logged
	e.Addresses = append(e.Addresses, o.Addresses...)
	e.portless = cmp.Or(e.portless, o.portless)
}

// order puts the most frequent first.
func order(list []Entry) []Entry {
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.Logged, a.Logged), a.Destination.Network.Addr().Compare(b.Destination.Network.Addr()),
			cmp.Compare(a.Destination.String(), b.Destination.String()), cmp.Compare(a.Refused, b.Refused))
	})
	return list
}

// refusal says why no entry is proposed for a target; "" means that one is.
func refusal(t Target) string {
	switch {
	case netpolicy.HasMetadata(t.Destination().Network):
		return "WARNING: cloud metadata, which hands out credentials"
	case t.Local && t.Port != 53:
		return "a port of this host that the guard closes: no entry opens it"
	case t.port() && t.Port == 0:
		return "the log names no port"
	}
	return ""
}

// widen replaces neighbours by their network.
func widen(list []Entry, present []destination.Destination) []Entry {
	list = gather(list, func(a netip.Addr) netip.Prefix {
		bits := 24
		if a.Is6() {
			bits = 64
		}
		network, _ := a.Prefix(bits)
		return network
	})
	for _, n := range known(present) {
		list = gather(list, func(a netip.Addr) netip.Prefix {
			if n.Contains(a) {
				return n
			}
			return netip.Prefix{}
		})
	}
	return list
}

// gather puts those of the addresses into one entry that share a network, a port and
// a protocol, if they are enough. Without ports a network would be open altogether.
func gather(list []Entry, network func(netip.Addr) netip.Prefix) []Entry {
	var out []Entry
	wide := map[destination.Destination][]Entry{}
	for _, e := range list {
		d := e.Destination
		d.Network = network(d.Network.Addr())
		if e.local || e.Destination.Port == 0 || !e.Destination.Network.IsSingleIP() || !d.Network.IsValid() || !ordinary(d.Network) {
			out = append(out, e)
		} else {
			wide[d] = append(wide[d], e)
		}
	}
	for d, near := range wide {
		if len(near) < Neighbours {
			out = append(out, near...)
			continue
		}
		w := Entry{Destination: d}
		for _, e := range near {
			w.add(e)
		}
		out = append(out, w)
	}
	return out
}

// known are the networks of the present entries, the narrowest first.
func known(present []destination.Destination) []netip.Prefix {
	var out []netip.Prefix
	for _, d := range present {
		widest := widest4
		if d.Network.Addr().Is6() {
			widest = widest6
		}
		if d.Network.Bits() >= widest && !d.Network.IsSingleIP() && !slices.Contains(out, d.Network) {
			out = append(out, d.Network)
		}
	}
	slices.SortStableFunc(out, func(a, b netip.Prefix) int { return cmp.Compare(b.Bits(), a.Bits()) })
	return out
}

// special are networks whose addresses are no neighbours of each other.
var special = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("224.0.0.0/3"), netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("0.0.0.0/8"),
}

func ordinary(network netip.Prefix) bool {
	return !slices.ContainsFunc(special, network.Overlaps) && !netpolicy.HasMetadata(network)
}

// fold leaves out new entries that others cover, and counts them there.
func fold(list []Entry) []Entry {
	all := make([]destination.Destination, len(list))
	for n, e := range list {
		all[n] = e.Destination
	}
	redundant := destination.Redundant(all)
	for n, by := range redundant {
		if !list[n].Present {
			list[by].add(list[n])
		}
	}
	var out []Entry
	for n, e := range list {
		if _, covered := redundant[n]; !covered || e.Present {
			out = append(out, e)
		}
	}
	return out
}
