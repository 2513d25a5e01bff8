package netpolicy

import (
	"cmp"
	"net/netip"
	"slices"
)

// Normalize brings CIDRs into the one form that sets hold: host bits are masked off, v4-mapped v6 becomes v4, and per
// family the result is sorted, without duplicates and without what lies inside another entry (the kernel's interval
// sets refuse overlaps; of two CIDRs that overlap one contains the other).
//
// Neighbours such as 10.0.0.0/9 and 10.128.0.0/9 stay two entries: each is what somebody wrote, and when one goes the
// other's element in the kernel is not touched.
//
// Invalid prefixes are ignored.
func Normalize(prefixes []netip.Prefix) (v4, v6 []netip.Prefix) {
	var all []netip.Prefix
	for _, p := range prefixes {
		if p.IsValid() {
			all = append(all, normal(p))
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits())) // v4 sorts first, the wider first
	})
	var last netip.Prefix
	for _, p := range all {
		if last.IsValid() && last.Contains(p.Addr()) {
			continue
		}
		last = p
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return v4, v6
}

// normal is the prefix without host bits, and as v4 when it lies within ::ffff:0:0/96. A shorter mapped prefix also
// covers addresses that are not mapped, and stays v6.
func normal(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

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
