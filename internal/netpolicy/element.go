package netpolicy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// encodeElements turns a set's elements into the kernel's.
func (s Set) encodeElements() ([]nftables.SetElement, error) {
	key, err := parseKeyType(s.Type)
	if err != nil {
		return nil, err
	}
	if s.Flags == "interval" && len(key) == 1 {
		return encodeSpans(s.Elements)
	}
	out := make([]nftables.SetElement, len(s.Elements))
	for i, text := range s.Elements {
		if s.Flags == "interval" {
			if out[i].Key, out[i].KeyEnd, err = key.bounds(text); err != nil {
				return nil, err
			}
			continue
		}
		text, verdict, isMap := strings.Cut(text, " : ")
		if isMap != s.Map {
			return nil, fmt.Errorf("internal error: element %q of %s %s", s.Elements[i], s.kind(), s.Name)
		}
		if out[i].Key, err = key.parse(text); err != nil {
			return nil, err
		}
		if isMap {
			kind, chain, _ := strings.Cut(verdict, " ")
			out[i].VerdictData = &expr.Verdict{Kind: verdictKinds[kind], Chain: chain}
		}
	}
	return out, nil
}

// encodeSpans writes each range as its first address and, flagged as an end, the first address after it; a range that
// reaches the last address of its family has no end.
func encodeSpans(texts []string) ([]nftables.SetElement, error) {
	var out []nftables.SetElement
	for _, text := range texts {
		s, err := parseSpan(text)
		if err != nil {
			return nil, err
		}
		out = append(out, nftables.SetElement{Key: s.from.AsSlice()})
		if next := s.to.Next(); next.IsValid() {
			out = append(out, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	return out, nil
}

// lowestEnd is the end marker at the lowest address with which nft begins a new interval set whose first range does
// not start there. It means nothing to a lookup; it keeps what we write the same as what nft writes.
func lowestEnd(first nftables.SetElement) []nftables.SetElement {
	lowest := make([]byte, len(first.Key))
	if bytes.Equal(lowest, first.Key) {
		return nil
	}
	return []nftables.SetElement{{Key: lowest, IntervalEnd: true}}
}

// parseSpan is the inverse of span.String.
func parseSpan(text string) (span, error) {
	if from, to, isRange := strings.Cut(text, "-"); isRange {
		a, err := netip.ParseAddr(from)
		b, err2 := netip.ParseAddr(to)
		if err != nil || err2 != nil || b.Less(a) || a.BitLen() != b.BitLen() {
			return span{}, fmt.Errorf("internal error: range %q", text)
		}
		return span{a, b}, nil
	}
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		return span{a, a}, err
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return span{}, err
	}
	return prefixSpan(p), nil
}

// decodeElements is encodeElements' inverse, for whatever the kernel may hold.
func decodeElements(key keyType, interval, isMap bool, elements []nftables.SetElement) []string {
	slices.SortFunc(elements, func(a, b nftables.SetElement) int {
		if c := compareKeys(key, a.Key, b.Key); c != 0 || a.IntervalEnd == b.IntervalEnd {
			return c
		}
		if a.IntervalEnd { // a range ends where the next begins
			return -1
		}
		return 1
	})
	if interval && len(key) == 1 {
		return decodeSpans(elements)
	}
	out := make([]string, len(elements))
	for i, e := range elements {
		out[i] = key.format(e.Key)
		if len(e.KeyEnd) > 0 {
			out[i] = key.formatBounds(e.Key, e.KeyEnd)
		}
		if isMap {
			out[i] += " : " + decodeVerdict(e.Val)
		}
	}
	return out
}

// compareKeys orders numerically: a UID stands in the machine's byte order.
func compareKeys(key keyType, a, b []byte) int {
	if len(key) > 0 && key[0].name == "uid" && len(a) >= 4 && len(b) >= 4 {
		x, y := binary.NativeEndian.Uint32(a), binary.NativeEndian.Uint32(b)
		if x != y {
			if x < y {
				return -1
			}
			return 1
		}
	}
	return bytes.Compare(a, b)
}

func decodeSpans(sorted []nftables.SetElement) []string {
	var out []string
	var from netip.Addr
	for _, e := range sorted {
		addr, ok := netip.AddrFromSlice(e.Key)
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("0x%x", e.Key))
		case !e.IntervalEnd:
			from = addr
		case from.IsValid():
			out = append(out, span{from, addr.Prev()}.String())
			from = netip.Addr{}
		}
	}
	if from.IsValid() {
		bits := make([]byte, from.BitLen()/8)
		for i := range bits {
			bits[i] = 0xff
		}
		last, _ := netip.AddrFromSlice(bits)
		out = append(out, span{from, last}.String())
	}
	return out
}

// decodeElement reads one element; Val stays undecoded.
func decodeElement(b []byte) nftables.SetElement {
	var e nftables.SetElement
	for kind, value := range attributes(b) {
		switch kind {
		case unix.NFTA_SET_ELEM_KEY:
			e.Key = nested(value, unix.NFTA_DATA_VALUE)
		case nftables.NFTA_SET_ELEM_KEY_END:
			e.KeyEnd = nested(value, unix.NFTA_DATA_VALUE)
		case unix.NFTA_SET_ELEM_DATA:
			e.Val = nested(value, unix.NFTA_DATA_VERDICT)
		case unix.NFTA_SET_ELEM_FLAGS:
			e.IntervalEnd = attrUint(value)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		}
	}
	return e
}

// decodeVerdict reads the attributes of a map element's verdict.
func decodeVerdict(data []byte) string {
	v := Verdict{}
	for kind, value := range attributes(data) {
		switch kind {
		case unix.NFTA_VERDICT_CODE:
			v.Kind = verdictName(expr.VerdictKind(int32(attrUint(value))))
		case unix.NFTA_VERDICT_CHAIN:
			v.Chain = attrText(value)
		}
	}
	return v.String()
}

func verdictName(kind expr.VerdictKind) string {
	for name, k := range verdictKinds {
		if k == kind {
			return name
		}
	}
	return fmt.Sprintf("verdict %d", kind)
}
