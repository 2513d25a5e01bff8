package netpolicy

import (
	"fmt"
	"slices"
	"strings"
)

// elementLines bounds how many elements of one set a difference names.
const elementLines = 10

// Diff compares two tables of one name: "" when they are the same policy, else one difference a line, in nft's
// terms. The order of sets, chains and elements, comments and the values of counters do not count.
func Diff(want, have Table) string {
	d := &difference{prefix: "table inet " + want.Name + ": "}
	if want.Flags != have.Flags {
		d.add("flags %s, wanted %s", orNone(have.Flags), orNone(want.Flags))
	}
	if want.marked() && !have.marked() {
		d.add("the comment of set %s does not mark it as opencoded's", markerSet)
	}
	pairs(want.Counters, have.Counters, func(s string) string { return s }, d.each("counter"), nil)
	pairs(want.Sets, have.Sets, setName, d.each("set"), d.set)
	pairs(want.Chains, have.Chains, chainName, d.each("chain"), d.chain)
	return strings.Join(d.lines, "\n")
}

type difference struct {
	prefix string
	lines  []string
}

func (d *difference) add(format string, args ...any) {
	d.lines = append(d.lines, d.prefix+fmt.Sprintf(format, args...))
}

func (d *difference) each(kind string) func(name, what string) {
	return func(name, what string) { d.add("%s %s %s", kind, name, what) }
}

// pairs walks two lists by name: one-sided names go to lone, with "missing" or "unexpected", the others to both.
func pairs[T any](want, have []T, name func(T) string, lone func(name, what string), both func(want, have T)) {
	inWant, inHave := byName(want, name), byName(have, name)
	for _, w := range want {
		switch h, ok := inHave[name(w)]; {
		case !ok:
			lone(name(w), "missing")
		case both != nil:
			both(w, h)
		}
	}
	for _, h := range have {
		if _, ok := inWant[name(h)]; !ok {
			lone(name(h), "unexpected")
		}
	}
}

func (d *difference) set(want, have Set) {
	if w, h := declaration(want), declaration(have); w != h {
		d.add("set %s is \"%s\", wanted \"%s\"", want.Name, h, w)
	}
	wanted, found := map[string]bool{}, map[string]bool{}
	for _, e := range want.Elements {
		wanted[e] = true
	}
	for _, e := range have.Elements {
		found[e] = true
	}
	d.elements(want.Name, "missing", want.Elements, found)
	d.elements(want.Name, "unexpected", have.Elements, wanted)
}

func (d *difference) elements(set, what string, list []string, others map[string]bool) {
	n := 0
	for _, e := range list {
		if others[e] {
			continue
		}
		if n++; n <= elementLines {
			d.add("set %s: element %s %s", set, e, what)
		}
	}
	if n > elementLines {
		d.add("set %s: %d more elements %s", set, n-elementLines, what)
	}
}

func declaration(s Set) string {
	text := s.kind() + " type " + s.typeText()
	if s.Size > 0 {
		text += fmt.Sprintf(" size %d", s.Size)
	}
	if s.Flags != "" {
		text += " flags " + s.Flags
	}
	return text
}

func (d *difference) chain(want, have Chain) {
	if w, h := baseText(want), baseText(have); w != h {
		d.add("chain %s is \"%s\", wanted \"%s\"", want.Name, h, w)
	}
	w, h := want.Rules, have.Rules
	for len(w) > 0 || len(h) > 0 {
		if len(w) > 0 && len(h) > 0 && sameRule(w[0], h[0]) {
			w, h = w[1:], h[1:]
			continue
		}
		w, h = d.hunk(want.Name, w, h)
	}
}

// hunk reports what stands before the next rule that both have: rules one for one are changes, the rest are
// missing or unexpected.
func (d *difference) hunk(chain string, w, h []Rule) (restW, restH []Rule) {
	nw, nh := len(w), len(h)
search:
	for sum := 1; sum < len(w)+len(h); sum++ {
		for i := 0; i <= min(sum, len(w)-1); i++ {
			if j := sum - i; j < len(h) && sameRule(w[i], h[j]) {
				nw, nh = i, j
				break search
			}
		}
	}
	for i := range max(nw, nh) {
		switch {
		case i >= nh:
			d.add("chain %s: rule missing: %s", chain, w[i])
		case i >= nw:
			d.add("chain %s: rule unexpected: %s", chain, h[i])
		default:
			d.add("chain %s: rule changed: %s, wanted: %s", chain, h[i], w[i])
		}
	}
	return w[nw:], h[nh:]
}

func sameRule(a, b Rule) bool { return slices.Equal(a.Statements, b.Statements) }

func baseText(c Chain) string {
	if c.Base == nil {
		return "no base chain"
	}
	return c.Base.String()
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
