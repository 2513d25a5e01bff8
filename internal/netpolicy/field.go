package netpolicy

import (
	"fmt"
	"strings"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// field is something of a packet that a rule can look at.
type field struct {
	// name in nft syntax.
	name string
	// needs must be true before the field means anything; nft adds these matches by itself.
	needs []expr.Any
	// load puts the field into a register.
	load func(reg uint32) expr.Any
	// codec is the notation of its values.
	codec codec
	// slots is how many registers of four bytes it fills.
	slots int
}

const firstReg = unix.NFT_REG_1

// register is the one that begins at a multiple of four bytes, by the number that the kernel prefers: it has 16
// registers of four bytes, and older names for every fourth.
func register(slot int) uint32 {
	if slot%4 == 0 {
		return uint32(unix.NFT_REG_1 + slot/4)
	}
	return uint32(unix.NFT_REG32_00 + slot)
}

// fields in the order in which decoding tries them: those with needs first, as their needs are matches themselves.
var fields = []field{
	{"ip daddr", is(meta(expr.MetaKeyNFPROTO), unix.NFPROTO_IPV4), network(16, 4), ip4Codec, 1},
	{"ip6 daddr", is(meta(expr.MetaKeyNFPROTO), unix.NFPROTO_IPV6), network(24, 16), ip6Codec, 4},
	{"tcp dport", is(meta(expr.MetaKeyL4PROTO), unix.IPPROTO_TCP), transport(2, 2), portCodec, 1},
	{"udp dport", is(meta(expr.MetaKeyL4PROTO), unix.IPPROTO_UDP), transport(2, 2), portCodec, 1},
	{"meta skuid", nil, meta(expr.MetaKeySKUID), uidCodec, 1},
	{"meta l4proto", nil, meta(expr.MetaKeyL4PROTO), named(1, "tcp", unix.IPPROTO_TCP, "udp", unix.IPPROTO_UDP), 1},
	{"oifname", nil, meta(expr.MetaKeyOIFNAME), ifnameCodec, 4},
	{"ct direction", nil, ctDirection, named(1, "original", 0, "reply", 1), 1},
	{"fib daddr type", nil, fibType, named(4, "unicast", unix.RTN_UNICAST, "local", unix.RTN_LOCAL), 1},
}

// keys are the concatenations that built tables use; decoding looks for them before single fields.
var keys = []string{
	"meta skuid . ip daddr", "meta skuid . ip6 daddr", "meta skuid . tcp dport",
	"ip daddr . tcp dport", "ip6 daddr . tcp dport", "ip daddr . udp dport", "ip6 daddr . udp dport",
}

// keyLoads are what loads each of the keys.
var keyLoads [][]expr.Any

var fieldByName = map[string]field{}

func init() {
	for _, f := range fields {
		fieldByName[f.name] = f
		keys = append(keys, f.name)
	}
	for _, key := range keys {
		loads, err := loadKey(key)
		if err != nil {
			panic(err)
		}
		keyLoads = append(keyLoads, loads)
	}
}

func meta(key expr.MetaKey) func(uint32) expr.Any {
	return func(reg uint32) expr.Any { return &expr.Meta{Key: key, Register: reg} }
}

func network(offset, length uint32) func(uint32) expr.Any {
	return payload(expr.PayloadBaseNetworkHeader, offset, length)
}

func transport(offset, length uint32) func(uint32) expr.Any {
	return payload(expr.PayloadBaseTransportHeader, offset, length)
}

func payload(base expr.PayloadBase, offset, length uint32) func(uint32) expr.Any {
	return func(reg uint32) expr.Any {
		return &expr.Payload{DestRegister: reg, Base: base, Offset: offset, Len: length}
	}
}

func ctDirection(reg uint32) expr.Any { return &expr.Ct{Key: expr.CtKeyDIRECTION, Register: reg} }

func fibType(reg uint32) expr.Any {
	return &expr.Fib{Register: reg, FlagDADDR: true, ResultADDRTYPE: true}
}

func is(load func(uint32) expr.Any, value byte) []expr.Any {
	return []expr.Any{load(firstReg), equals([]byte{value})}
}

func equals(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: firstReg, Data: data}
}

// loads is everything up to the comparison.
func (f field) loads(reg uint32) []expr.Any {
	return append(append([]expr.Any{}, f.needs...), f.load(reg))
}

// loadKey loads one field, or several joined with " . ". All needs come first, as they use register 1 too.
func loadKey(key string) ([]expr.Any, error) {
	var needs, loads []expr.Any
	slot := 0
	for name := range strings.SplitSeq(key, concat) {
		f, ok := fieldByName[name]
		if !ok || slot+f.slots > 16 {
			return nil, fmt.Errorf("internal error: key %q", key)
		}
		needs = append(needs, f.needs...)
		loads = append(loads, f.load(register(slot)))
		slot += f.slots
	}
	return append(needs, loads...), nil
}

// native32 is a number in the byte order of the machine, which the kernel uses for what is not a packet's.
func native32(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }
