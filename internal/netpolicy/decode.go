package netpolicy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// unknown stands for a kernel expression that built rules never contain. google/nftables 0.3 leaves expressions
// that it does not know out of a rule without a word, so that "dup to … goto blocked" would read as "goto blocked".
// That is why rules are decoded here.
type unknown struct {
	expr.Any
	name string
}

// known makes an empty expression for each kernel name that built rules use.
var known = map[string]func() expr.Any{
	"bitwise": func() expr.Any { return &expr.Bitwise{} },
	"cmp":     func() expr.Any { return &expr.Cmp{} },
	"ct":      func() expr.Any { return &expr.Ct{} },
	"fib":     func() expr.Any { return &expr.Fib{} },
	"limit":   func() expr.Any { return &expr.Limit{} },
	"log":     func() expr.Any { return &expr.Log{} },
	"lookup":  func() expr.Any { return &expr.Lookup{} },
	"meta":    func() expr.Any { return &expr.Meta{} },
	"objref":  func() expr.Any { return &expr.Objref{} },
	"payload": func() expr.Any { return &expr.Payload{} },
	"reject":  func() expr.Any { return &expr.Reject{} },
}

// decoder reads rules, most of which consist of the same few expressions.
type decoder map[string]expr.Any

// rule reads the attributes of a rule.
func (d decoder) rule(b []byte) Rule {
	var list []expr.Any
	for _, e := range attributes(nested(b, unix.NFTA_RULE_EXPRESSIONS)) {
		decoded, known := d[string(e)]
		if !known {
			decoded = decodeExpr(e)
			d[string(e)] = decoded
		}
		list = append(list, decoded)
	}
	return Rule{Statements: decodeStatements(list)}
}

// decodeExpr never fails: what cannot be understood is unknown, and that is a difference.
func decodeExpr(b []byte) expr.Any {
	name, data := attrText(nested(b, unix.NFTA_EXPR_NAME)), nested(b, unix.NFTA_EXPR_DATA)
	e := expr.Any(nil)
	switch newExpr := known[name]; {
	case name == "immediate": // in a rule of ours always a verdict
		e = &expr.Verdict{}
		immediate := &expr.Immediate{}
		if err := expr.Unmarshal(unix.NFPROTO_INET, data, immediate); err != nil || immediate.Register != unix.NFT_REG_VERDICT {
			return unknown{name: name}
		}
	case newExpr != nil:
		e = newExpr()
	default:
		return unknown{name: name}
	}
	if err := expr.Unmarshal(unix.NFPROTO_INET, data, e); err != nil {
		return unknown{name: name}
	}
	return e
}

// decodeStatements is exact: a statement is recognised only where the expressions it would be written as are the
// ones found, field by field. Everything else becomes Raw, which equals no built statement.
func decodeStatements(list []expr.Any) []Statement {
	var out []Statement
	for len(list) > 0 {
		s, n := decodeStatement(list)
		out = append(out, s)
		list = list[n:]
	}
	return out
}

func decodeStatement(list []expr.Any) (Statement, int) {
	if s := simpleStatement(list[0]); s != nil && written(s, list) == 1 {
		return s, 1
	}
	if _, begins := list[0].(*expr.Ct); begins {
		for name := range stateBits {
			if s := (State{Name: name}); written(s, list) > 0 {
				return s, written(s, list)
			}
		}
	}
	for n, key := range keys {
		loads := keyLoads[n]
		if len(list) <= len(loads) || !slices.EqualFunc(list[:len(loads)], loads, sameExpr) {
			continue
		}
		if s := keyStatement(key, list[len(loads)]); s != nil && written(s, list) > 0 {
			return s, len(loads) + 1
		}
	}
	return Raw{describe(list[0])}, 1
}

// written is the number of leading expressions that the statement accounts for, 0 when it is not what stands there.
func written(s Statement, list []expr.Any) int {
	want, err := s.exprs()
	if err != nil || len(want) > len(list) || !slices.EqualFunc(normalExprs(list[:len(want)]), want, sameExpr) {
		return 0
	}
	return len(want)
}

// sameExpr compares all fields. Most expressions are plain values, and reflection was a fifth of the work of a read.
func sameExpr(a, b expr.Any) bool {
	switch a := a.(type) {
	case *expr.Meta:
		return sameValue(a, b)
	case *expr.Payload:
		return sameValue(a, b)
	case *expr.Ct:
		return sameValue(a, b)
	case *expr.Fib:
		return sameValue(a, b)
	case *expr.Lookup:
		return sameValue(a, b)
	case *expr.Verdict:
		return sameValue(a, b)
	case *expr.Objref:
		return sameValue(a, b)
	}
	return reflect.DeepEqual(a, b)
}

func sameValue[T comparable](a *T, b expr.Any) bool {
	other, same := any(b).(*T)
	return same && *a == *other
}

// normalExprs undoes what the kernel adds when it dumps: a log expression names the default level 4 (warn).
func normalExprs(list []expr.Any) []expr.Any {
	out := slices.Clone(list)
	for i, e := range out {
		if l, ok := e.(*expr.Log); ok && l.Level == expr.LogLevelWarning {
			copied := *l
			copied.Level, copied.Key = 0, l.Key&^(1<<unix.NFTA_LOG_LEVEL)
			if l.Flags == 0 {
				copied.Key &^= 1 << unix.NFTA_LOG_FLAGS
			}
			out[i] = &copied
		}
	}
	return out
}

// simpleStatement guesses the statement that one expression alone makes, nil when there is none.
func simpleStatement(e expr.Any) Statement {
	switch e := e.(type) {
	case *expr.Verdict:
		return Verdict{Kind: verdictName(e.Kind), Chain: e.Chain}
	case *expr.Objref:
		return Count{Counter: e.Name}
	case *expr.Log:
		return Log{Prefix: string(e.Data)}
	case *expr.Limit:
		for unit, seconds := range unitSeconds {
			if seconds == uint64(e.Unit) {
				return Limit{Rate{Packets: uint32(e.Rate), Unit: unit}, e.Burst}
			}
		}
	case *expr.Reject:
		for with, reject := range rejectKinds {
			if *e == reject {
				return RejectWith{With: with}
			}
		}
	}
	return nil
}

// keyStatement guesses the statement that ends with e after key was loaded.
func keyStatement(key string, e expr.Any) Statement {
	switch e := e.(type) {
	case *expr.Lookup:
		if e.IsDestRegSet {
			return VMap{Key: key, Map: e.SetName}
		}
		return Lookup{Key: key, Set: e.SetName}
	case *expr.Cmp:
		if value := fieldByName[key].codec.format; value != nil && value(e.Data) != "" {
			return Match{Field: key, Value: value(e.Data)}
		}
	}
	return nil
}

// describe is for people: the expression's name and contents.
func describe(e expr.Any) string {
	if u, ok := e.(unknown); ok {
		return u.name
	}
	name := strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", e), "*expr."))
	return name + " " + strings.Trim(fmt.Sprintf("%+v", reflect.ValueOf(e).Elem().Interface()), "{}")
}
