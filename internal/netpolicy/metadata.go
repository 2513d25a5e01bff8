package netpolicy

import (
	"net/netip"
	"slices"
)

// metadata are the addresses at which clouds hand credentials and user data to whoever asks from the machine.
// All but the Azure one are link-local or unique-local addresses with no other use; where one of them is also the
// network's resolver, the guard lets port 53 pass.
var metadata = []netip.Addr{
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("168.63.129.16"),   // Azure "WireServer": machine certificates and extension settings
	netip.MustParseAddr("169.254.169.254"), // AWS, Azure, Google, Oracle, DigitalOcean, Hetzner, OpenStack
	netip.MustParseAddr("169.254.170.2"),   // AWS ECS, task roles
	netip.MustParseAddr("169.254.170.23"),  // AWS EKS, pod identity
	netip.MustParseAddr("fd00:ec2::23"),    // AWS EKS, pod identity
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google
}

// HasMetadata reports whether a cloud metadata address lies within the network.
func HasMetadata(network netip.Prefix) bool { return slices.ContainsFunc(metadata, network.Contains) }

// linkLocal4 holds nothing but services of the link itself, so a CIDR inside it was written with them in mind.
var linkLocal4 = netip.MustParsePrefix("169.254.0.0/16")

// Metadata are the cloud metadata addresses that the instance's own Allow entries name. An entry names an address
// when it is that single address, or when it contains it and itself lies within 169.254.0.0/16. Wider entries
// (0.0.0.0/0, 100.64.0.0/10, fd00::/8) mean a network, not its metadata service, and name nothing.
//
// It does not matter whether the instance is isolated: the guard covers every instance.
func (p Policy) Metadata() []netip.Addr {
	var named []netip.Addr
	for _, addr := range metadata {
		for _, entry := range p.Allow {
			if names(entry.Network, addr) {
				named = append(named, addr)
				break
			}
		}
	}
	return named
}

func names(entry netip.Prefix, addr netip.Addr) bool {
	if !entry.Contains(addr) {
		return false
	}
	return entry.IsSingleIP() || linkLocal4.Overlaps(entry) && entry.Bits() >= linkLocal4.Bits()
}
