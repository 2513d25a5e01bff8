// Package destination is the notation of where an instance may send packets: a
// network, or one port of one protocol in it.
package destination

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Protocol is a transport protocol with ports.
type Protocol string

// The protocols of a destination.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// Destination is a network and, unless Port is 0, the one port that is meant.
// The zero Port means everything that the network answers to, ICMP included.
type Destination struct {
	Network  netip.Prefix // without host bits; IPv4-mapped addresses are IPv4
	Port     uint16
	Protocol Protocol // "" exactly when Port is 0
}

// Of is everything in a network.
func Of(network netip.Prefix) Destination { return Destination{Network: normal(network)} }

// Error is a text that is no destination.
type Error struct {
	Problem, Hint string
}

func (e *Error) Error() string { return e.Problem + " (" + e.Hint + ")" }

func refuse(hint, format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...), hint}
}

// Parse reads ADDRESS, NETWORK/LENGTH, and either with :PORT, :PORT/tcp or
// :PORT/udp behind it; an IPv6 address with a port stands in square brackets.
// A port without protocol is TCP. The remark is not empty where the text says
// something else than is meant: host bits, or an IPv4 address spelled as IPv6.
// Errors are of type *Error.
func Parse(text string) (d Destination, remark string, err error) {
	network, port, protocol, err := split(text)
	if err != nil {
		return Destination{}, "", err
	}
	d.Network, err = parseNetwork(text, network)
	if err != nil {
		return Destination{}, "", err
	}
	switch meant := normal(d.Network); {
	case d.Network.Addr().Is4In6() && !meant.Addr().Is4():
		return Destination{}, "", refuse("write the IPv4 network itself", "%q is wider than the IPv4-mapped range", text)
	case d.Network.Addr().Is4In6():
		remark = "is IPv4 spelled as IPv6"
		d.Network = meant
	case meant != d.Network:
		remark = "has host bits set"
		d.Network = meant
	}
	if protocol == "" && port == "" {
		return d, remark, nil
	}
	d.Protocol, err = parseProtocol(text, network, port, protocol)
	if err != nil {
		return Destination{}, "", err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '+' {
		return Destination{}, "", noPort(port)
	}
	d.Port = uint16(n)
	return d, remark, nil
}

// split takes a text apart without looking at the parts.
func split(text string) (network, port, protocol string, err error) {
	network = text
	if n := strings.LastIndexByte(network, '/'); n >= 0 && strings.Trim(network[n+1:], "0123456789[]:") != "" {
		network, protocol = network[:n], network[n+1:]
	}
	if inside, bracketed := strings.CutPrefix(network, "["); bracketed {
		inside, after, closed := strings.Cut(inside, "]")
		port, ok := strings.CutPrefix(after, ":")
		switch {
		case !closed || !ok && after != "":
			return "", "", "", refuse(`use "[2001:db8::/64]:443"`, "%q is not a network", text)
		case ok && port == "":
			return "", "", "", noPort(port)
		}
		return inside, port, protocol, nil
	}
	if strings.Count(network, ":") == 1 {
		network, port, _ = strings.Cut(network, ":")
		if port == "" {
			return "", "", "", noPort(port)
		}
	}
	return network, port, protocol, nil
}

func noPort(text string) error {
	return refuse("use a port from 1 to 65535; without one every port is allowed", "%q is not a port", text)
}

func parseNetwork(text, network string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(network); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	if p, err := netip.ParsePrefix(network); err == nil {
		return p, nil
	}
	hint := `use a network such as "10.0.0.0/8", "2001:db8::/32" or a single address, and :PORT behind it if you like`
	if strings.Count(network, ":") > 1 && strings.Contains(network, "/") {
		hint = `use a network such as "2001:db8::/32", with a port "[2001:db8::/32]:443"`
	}
	return netip.Prefix{}, refuse(hint, "%q is not a network", text)
}

func parseProtocol(text, network, port, protocol string) (Protocol, error) {
	switch p := Protocol(protocol); {
	case p != "" && p != TCP && p != UDP:
		return "", refuse(`use "tcp" or "udp"; without a port every protocol is allowed`, "%q is not a protocol with ports", protocol)
	case port == "":
		return "", refuse(fmt.Sprintf("write %q", network+":PORT/"+protocol), "%q has a protocol without a port", text)
	case p == UDP:
		return UDP, nil
	}
	return TCP, nil
}

// normal is the network without host bits, and as IPv4 when it lies within
// ::ffff:0:0/96. A shorter mapped prefix also covers addresses that are not
// mapped, and stays IPv6.
func normal(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// String prints what Parse reads, in its shortest form.
func (d Destination) String() string {
	text := d.Network.String()
	if d.Network.IsSingleIP() {
		text = d.Network.Addr().String()
	}
	if d.Port == 0 {
		return text
	}
	if d.Network.Addr().Is6() {
		text = "[" + text + "]"
	}
	text += ":" + strconv.Itoa(int(d.Port))
	if d.Protocol == UDP {
		text += "/udp"
	}
	return text
}

// MarshalText implements [encoding.TextMarshaler].
func (d Destination) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Destination) UnmarshalText(text []byte) (err error) {
	*d, _, err = Parse(string(text))
	return err
}

// Valid reports whether it is a destination at all.
func (d Destination) Valid() bool {
	return d.Network.IsValid() && (d.Port == 0) == (d.Protocol == "") && (d.Port == 0 || d.Protocol == TCP || d.Protocol == UDP)
}

// Covers reports whether everything at other is also at d.
func (d Destination) Covers(other Destination) bool {
	return d.Network.Bits() <= other.Network.Bits() && d.Network.Contains(other.Network.Addr()) &&
		(d.Port == 0 || d.Port == other.Port && d.Protocol == other.Protocol)
}

// Normalize sorts, IPv4 first, and leaves out what is invalid, repeated or
// covered by another. Neighbours such as 10.0.0.0/9 and 10.128.0.0/9 stay two:
// each is what somebody wrote, and when one goes the other is not touched.
func Normalize(list []Destination) []Destination {
	var all []Destination
	for _, d := range list {
		if d.Valid() {
			d.Network = normal(d.Network)
			all = append(all, d)
		}
	}
	slices.SortFunc(all, compare)
	redundant, out := Redundant(all), all[:0:0]
	for n, d := range all {
		if _, covered := redundant[n]; !covered {
			out = append(out, d)
		}
	}
	return out
}

// compare puts IPv4 first, the wider network of two that begin alike before the
// other, and what has no port before what has one.
func compare(a, b Destination) int {
	return cmp.Or(a.Network.Addr().Compare(b.Network.Addr()), cmp.Compare(a.Network.Bits(), b.Network.Bits()),
		cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
}

// Redundant names the entries that others make superfluous, by their index: the
// index of the one that covers it. Of two that are the same, the later.
func Redundant(list []Destination) map[int]int {
	order := make([]int, len(list))
	for n := range order {
		order[n] = n
	}
	slices.SortStableFunc(order, func(a, b int) int { return compare(list[a], list[b]) })
	found, outer := map[int]int{}, map[Destination]int{}
	for _, n := range order {
		d := list[n]
		own := Destination{Port: d.Port, Protocol: d.Protocol}
		for _, key := range []Destination{{}, own} {
			if by, ok := outer[key]; ok && list[by].Covers(d) {
				found[n] = by
			}
		}
		if _, covered := found[n]; !covered {
			outer[own] = n
		}
	}
	return found
}
