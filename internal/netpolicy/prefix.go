package netpolicy

import "net/netip"

// prefixText prints a prefix as nft does: a single address without its length.
func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// span is an inclusive range of addresses of one family, which is what the kernel stores. Built tables hold only
// those that are a prefix.
type span struct {
	from, to netip.Addr
}

func prefixSpan(p netip.Prefix) span {
	last := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	to, _ := netip.AddrFromSlice(last)
	return span{p.Addr(), to}
}

// String prints an address, a CIDR where one says it exactly, else from-to.
func (s span) String() string {
	from, to := s.from.AsSlice(), s.to.AsSlice()
	bits := 0
	for bits < len(from)*8 && (from[bits/8]^to[bits/8])&(0x80>>(bits%8)) == 0 {
		bits++
	}
	if p := netip.PrefixFrom(s.from, bits); prefixSpan(p) == s {
		return prefixText(p)
	}
	return s.from.String() + "-" + s.to.String()
}
