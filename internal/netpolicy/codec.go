package netpolicy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"
)

// codec turns a value from nft's notation into the kernel's bytes and back. format returns "" for bytes that it
// does not know.
type codec struct {
	parse  func(string) ([]byte, error)
	format func([]byte) string
}

var (
	ip4Codec    = addrCodec(4)
	ip6Codec    = addrCodec(16)
	uidCodec    = codec{parseUID, formatUID}
	portCodec   = codec{parsePort, formatPort}
	ifnameCodec = codec{parseIfname, formatIfname}
)

func addrCodec(size int) codec {
	return codec{
		parse: func(s string) ([]byte, error) {
			addr, err := netip.ParseAddr(s)
			if err != nil || addr.BitLen() != size*8 {
				return nil, fmt.Errorf("internal error: address %q", s)
			}
			return addr.AsSlice(), nil
		},
		format: func(b []byte) string {
			addr, ok := netip.AddrFromSlice(b)
			if !ok || len(b) != size {
				return ""
			}
			return addr.String()
		},
	}
}

func parseUID(s string) ([]byte, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return native32(uint32(n)), err
}

func formatUID(b []byte) string {
	if len(b) != 4 {
		return ""
	}
	return uidText(binaryutil.NativeEndian.Uint32(b))
}

func parsePort(s string) ([]byte, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return binary.BigEndian.AppendUint16(nil, uint16(n)), err
}

func formatPort(b []byte) string {
	if len(b) != 2 {
		return ""
	}
	return strconv.Itoa(int(binary.BigEndian.Uint16(b)))
}

// parseIfname wants the quotes that nft prints. A whole name is compared with its terminator and padding; nft
// compares fewer bytes for "eth*", which formatIfname does not know.
func parseIfname(s string) ([]byte, error) {
	name, err := strconv.Unquote(s)
	if err != nil || len(name) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("internal error: interface name %s", s)
	}
	return append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...), nil
}

func formatIfname(b []byte) string {
	name := bytes.TrimRight(b, "\x00")
	if len(b) != unix.IFNAMSIZ || len(name) == len(b) {
		return ""
	}
	return strconv.Quote(string(name))
}

// named is a codec of constants, given as pairs of name and number. Four-byte constants are in the machine's order.
func named(size int, pairs ...any) codec {
	numbers, names := map[string][]byte{}, map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		data := []byte{byte(pairs[i+1].(int))}
		if size == 4 {
			data = native32(uint32(pairs[i+1].(int)))
		}
		numbers[pairs[i].(string)] = data
		names[string(data)] = pairs[i].(string)
	}
	return codec{
		parse: func(s string) ([]byte, error) {
			if data, ok := numbers[s]; ok {
				return data, nil
			}
			return nil, fmt.Errorf("internal error: constant %q", s)
		},
		format: func(b []byte) string { return names[string(b)] },
	}
}

// concat joins the fields of a key, in types and elements alike.
const concat = " . "

// setType is one part of a set's key type.
type setType struct {
	name  string
	nft   nftables.SetDatatype
	order binaryutil.ByteOrder
	codec codec
}

var setTypes = []setType{
	{"uid", nftables.TypeUID, binaryutil.NativeEndian, uidCodec},
	{"inet_service", nftables.TypeInetService, binaryutil.BigEndian, portCodec},
	{"ipv4_addr", nftables.TypeIPAddr, binaryutil.BigEndian, ip4Codec},
	{"ipv6_addr", nftables.TypeIP6Addr, binaryutil.BigEndian, ip6Codec},
}

// keyType is a set's whole key type.
type keyType []setType

// parseKeyType reads "uid" or "uid . inet_service".
func parseKeyType(text string) (keyType, error) {
	var key keyType
next:
	for _, name := range strings.Split(text, concat) {
		for _, t := range setTypes {
			if t.name == name {
				key = append(key, t)
				continue next
			}
		}
		return nil, fmt.Errorf("internal error: set type %q", text)
	}
	return key, nil
}

// keyTypeOf is the key type with nft's magic number for it, which packs six bits a part, the last part lowest.
func keyTypeOf(magic uint32) (key keyType, ok bool) {
next:
	for ; magic != 0; magic >>= nftables.SetConcatTypeBits {
		for _, t := range setTypes {
			if t.nft.GetNFTMagic() == magic&nftables.SetConcatTypeMask {
				key = append(keyType{t}, key...)
				continue next
			}
		}
		return nil, false
	}
	return key, len(key) > 0
}

func (k keyType) String() string {
	names := make([]string, len(k))
	for i, t := range k {
		names[i] = t.name
	}
	return strings.Join(names, concat)
}

func (k keyType) datatype() (nftables.SetDatatype, error) {
	parts := make([]nftables.SetDatatype, len(k))
	for i, t := range k {
		parts[i] = t.nft
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return nftables.ConcatSetType(parts...)
}

// parse encodes "62001 . 8080". In a concatenation every part is padded to whole 4-byte registers.
func (k keyType) parse(text string) ([]byte, error) {
	parts := strings.Split(text, concat)
	if len(parts) != len(k) {
		return nil, fmt.Errorf("internal error: element %q of type %s", text, k)
	}
	var key []byte
	for i, t := range k {
		data, err := t.codec.parse(parts[i])
		if err != nil {
			return nil, err
		}
		if len(k) > 1 {
			data = append(data, make([]byte, -len(data)&3)...)
		}
		key = append(key, data...)
	}
	return key, nil
}

// format is parse's inverse; bytes that do not fit the type print as hexadecimal.
func (k keyType) format(key []byte) string {
	parts, ok := k.split(key)
	if !ok {
		return fmt.Sprintf("0x%x", key)
	}
	out := make([]string, len(k))
	for i, t := range k {
		out[i] = t.codec.format(parts[i])
	}
	return strings.Join(out, concat)
}

// split takes a key apart, without the padding.
func (k keyType) split(key []byte) (parts [][]byte, ok bool) {
	for _, t := range k {
		size := int(t.nft.Bytes)
		padded := size
		if len(k) > 1 {
			padded += -size & 3
		}
		if len(key) < padded {
			return nil, false
		}
		parts = append(parts, key[:size])
		key = key[padded:]
	}
	return parts, len(key) == 0
}

// bounds encodes "10.0.0.0/8 . 443": the first and the last key of the range. Of the parts only addresses are
// ranges.
func (k keyType) bounds(text string) (first, last []byte, err error) {
	parts := strings.Split(text, concat)
	from, to := slices.Clone(parts), slices.Clone(parts)
	for i, part := range parts {
		if i < len(k) && (k[i].name == "ipv4_addr" || k[i].name == "ipv6_addr") {
			s, err := parseSpan(part)
			if err != nil {
				return nil, nil, err
			}
			from[i], to[i] = s.from.String(), s.to.String()
		}
	}
	if first, err = k.parse(strings.Join(from, concat)); err != nil {
		return nil, nil, err
	}
	last, err = k.parse(strings.Join(to, concat))
	return first, last, err
}

// formatBounds is its inverse, for whatever the kernel may hold.
func (k keyType) formatBounds(first, last []byte) string {
	from, ok := k.split(first)
	to, ok2 := k.split(last)
	if !ok || !ok2 {
		return fmt.Sprintf("0x%x-0x%x", first, last)
	}
	out := make([]string, len(k))
	for i, t := range k {
		a, isAddr := netip.AddrFromSlice(from[i])
		b, _ := netip.AddrFromSlice(to[i])
		switch {
		case isAddr && (t.name == "ipv4_addr" || t.name == "ipv6_addr"):
			out[i] = span{a, b}.String()
		case bytes.Equal(from[i], to[i]):
			out[i] = t.codec.format(from[i])
		default:
			out[i] = t.codec.format(from[i]) + "-" + t.codec.format(to[i])
		}
	}
	return strings.Join(out, concat)
}
