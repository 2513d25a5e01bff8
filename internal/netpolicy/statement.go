package netpolicy

import (
	"fmt"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Statement is one part of a rule. Statements are comparable values; two are the same exactly when the kernel does
// the same for both.
type Statement interface {
	// String is the statement in nft syntax.
	String() string
	// exprs are the kernel expressions that nft writes for it. An error is a bug: built tables hold only what the
	// tables of fields and types know.
	exprs() ([]expr.Any, error)
}

// Match compares one field of the packet with a constant: "meta skuid 62001".
type Match struct{ Field, Value string }

// Lookup tests one field, or several joined with " . ", for membership of a set: "ip daddr @allow4".
type Lookup struct{ Key, Set string }

// VMap goes where a verdict map says; without a matching element the next rule follows.
type VMap struct{ Key, Map string }

// State matches packets of connections in a state of connection tracking: "established".
type State struct{ Name string }

// Limit matches Burst packets at once and Rate after that.
type Limit struct {
	Rate  Rate
	Burst uint32
}

// Log writes the packet's addresses, ports and sender to the kernel log, at level warn.
type Log struct{ Prefix string }

// Count adds to a named counter.
type Count struct{ Counter string }

// Verdict ends the evaluation; Chain is set for jump and goto.
type Verdict struct{ Kind, Chain string }

// RejectWith drops and tells the sender how: "tcp reset" or "icmpx admin-prohibited".
type RejectWith struct{ With string }

// Raw is something in the kernel that opencoded never writes, in the notation of `nft --debug=netlink`.
type Raw struct{ Text string }

var (
	accept = Verdict{Kind: "accept"}
	drop   = Verdict{Kind: "drop"}
	back   = Verdict{Kind: "return"}
)

func goTo(chain string) Verdict { return Verdict{Kind: "goto", Chain: chain} }
func jump(chain string) Verdict { return Verdict{Kind: "jump", Chain: chain} }

func (s Match) String() string      { return s.Field + " " + s.Value }
func (s Lookup) String() string     { return s.Key + " @" + s.Set }
func (s VMap) String() string       { return s.Key + " vmap @" + s.Map }
func (s State) String() string      { return "ct state " + s.Name }
func (s Limit) String() string      { return fmt.Sprintf("limit rate %s burst %d packets", s.Rate, s.Burst) }
func (s Log) String() string        { return fmt.Sprintf("log prefix %q", s.Prefix) }
func (s Count) String() string      { return fmt.Sprintf("counter name %q", s.Counter) }
func (s Verdict) String() string    { return strings.TrimSpace(s.Kind + " " + s.Chain) }
func (s RejectWith) String() string { return "reject with " + s.With }
func (s Raw) String() string        { return "[ " + s.Text + " ]" }

// Verdicts, states and rejects by their nft names. The codes are those of linux/netfilter/nf_tables.h; icmpx 3 is
// NFT_REJECT_ICMPX_ADMIN_PROHIBITED.
var (
	verdictKinds = map[string]expr.VerdictKind{
		"accept": expr.VerdictAccept, "drop": expr.VerdictDrop, "return": expr.VerdictReturn,
		"continue": expr.VerdictContinue, "jump": expr.VerdictJump, "goto": expr.VerdictGoto,
	}
	stateBits   = map[string]uint32{"established": expr.CtStateBitESTABLISHED}
	rejectKinds = map[string]expr.Reject{
		"tcp reset":              {Type: unix.NFT_REJECT_TCP_RST},
		"icmpx admin-prohibited": {Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED},
	}
)

func (s Match) exprs() ([]expr.Any, error) {
	f, ok := fieldByName[s.Field]
	if !ok {
		return nil, fmt.Errorf("internal error: field %q", s.Field)
	}
	data, err := f.codec.parse(s.Value)
	if err != nil {
		return nil, err
	}
	return append(f.loads(firstReg), equals(data)), nil
}

func (s Lookup) exprs() ([]expr.Any, error) {
	loads, err := loadKey(s.Key)
	return append(loads, &expr.Lookup{SourceRegister: firstReg, SetName: s.Set}), err
}

func (s VMap) exprs() ([]expr.Any, error) {
	loads, err := loadKey(s.Key)
	return append(loads, &expr.Lookup{
		SourceRegister: firstReg, SetName: s.Map, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT,
	}), err
}

func (s State) exprs() ([]expr.Any, error) {
	bit, ok := stateBits[s.Name]
	if !ok {
		return nil, fmt.Errorf("internal error: state %q", s.Name)
	}
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: firstReg},
		&expr.Bitwise{SourceRegister: firstReg, DestRegister: firstReg, Len: 4, Mask: native32(bit), Xor: native32(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: firstReg, Data: native32(0)},
	}, nil
}

func (s Limit) exprs() ([]expr.Any, error) {
	return []expr.Any{&expr.Limit{
		Type: expr.LimitTypePkts, Rate: uint64(s.Rate.Packets), Unit: expr.LimitTime(unitSeconds[s.Rate.Unit]), Burst: s.Burst,
	}}, nil
}

func (s Log) exprs() ([]expr.Any, error) {
	return []expr.Any{&expr.Log{Key: 1 << unix.NFTA_LOG_PREFIX, Data: []byte(s.Prefix)}}, nil
}

func (s Count) exprs() ([]expr.Any, error) {
	return []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: s.Counter}}, nil
}

func (s Verdict) exprs() ([]expr.Any, error) {
	kind, ok := verdictKinds[s.Kind]
	if !ok {
		return nil, fmt.Errorf("internal error: verdict %q", s.Kind)
	}
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: s.Chain}}, nil
}

func (s RejectWith) exprs() ([]expr.Any, error) {
	reject, ok := rejectKinds[s.With]
	if !ok {
		return nil, fmt.Errorf("internal error: reject with %q", s.With)
	}
	return []expr.Any{&reject}, nil
}

func (s Raw) exprs() ([]expr.Any, error) {
	return nil, fmt.Errorf("internal error: cannot write %s", s)
}
