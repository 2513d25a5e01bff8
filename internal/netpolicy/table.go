package netpolicy

import (
	"fmt"
	"strings"
)

// The marker by which opencoded recognises its tables: a set of this name whose comment begins with this text. It
// is a set because a table's own comment cannot be written through google/nftables 0.3.
const (
	markerSet     = "opencoded"
	markerComment = "written by opencoded, changes are undone"
	markerPrefix  = "written by opencoded"
)

// Table is an nftables table of family inet, in the order in which it prints. Objects refer to each other by name.
// Egress and Guard build tables, [Kernel.Read] reads them from the kernel; [Diff] compares the two.
type Table struct {
	Name string
	// Flags is empty in a built table; "dormant" switches all of a table's rules off.
	Flags string
	// Counters are named counters, whose values are not part of the policy and survive a replacement.
	Counters []string
	Sets     []Set
	Chains   []Chain
}

// Set is a named set, or a verdict map when Map is true.
type Set struct {
	Name string
	// Type is the nft type of a key, for example "uid . inet_service".
	Type string
	// Flags as nft prints them; only "interval" occurs in built tables.
	Flags string
	// Size is how many elements it can hold, 0 for any number. The kernel makes room for all of them at once, and finds
	// one in fewer steps.
	Size uint32
	// Map makes it a verdict map.
	Map bool
	// Comment is compared by nobody; on the marker it is what makes a table opencoded's.
	Comment string
	// Elements in nft syntax, in numeric order of their keys: "10.0.0.0/8", "62001 . 8080", "62001 : goto blocked".
	Elements []string
}

// Chain is a base chain when Base is set.
type Chain struct {
	Name  string
	Base  *Base
	Rules []Rule
}

// Base is where a base chain hooks into the kernel's path of a packet.
type Base struct {
	Type     string // "filter"
	Hook     string // "output"
	Priority int32  // 0 is nft's "filter"
	Policy   string // "accept"
}

// Rule is a list of statements. Comment is a remark for readers of the text and is not part of what the kernel holds.
type Rule struct {
	Comment    string
	Statements []Statement
}

// String prints the rule in nft syntax, without its comment.
func (r Rule) String() string {
	parts := make([]string, len(r.Statements))
	for i, s := range r.Statements {
		parts[i] = s.String()
	}
	return strings.Join(parts, " ")
}

// String prints the hook as nft does: "type filter hook output priority filter - 1; policy accept;".
func (b Base) String() string {
	return fmt.Sprintf("type %s hook %s priority %s; policy %s;", b.Type, b.Hook, priorityText(b.Priority), b.Policy)
}

func priorityText(p int32) string {
	switch {
	case p == 0:
		return "filter"
	case p > 0 && p <= 10:
		return fmt.Sprintf("filter + %d", p)
	case p < 0 && p >= -10:
		return fmt.Sprintf("filter - %d", -p)
	}
	return fmt.Sprint(p)
}

// String prints the table as a file for `nft -f`, in the layout of `nft list table` and with the rules' comments.
func (t Table) String() string {
	w := &writer{}
	w.open("table inet %s", t.Name)
	if t.Flags != "" {
		w.line("flags %s", t.Flags)
		w.line("")
	}
	blocks := []func(){}
	for _, s := range t.Sets {
		blocks = append(blocks, func() { s.print(w) })
	}
	for _, c := range t.Counters {
		blocks = append(blocks, func() { w.open("counter %s", c); w.close() })
	}
	for _, c := range t.Chains {
		blocks = append(blocks, func() { c.print(w) })
	}
	for i, block := range blocks {
		if i > 0 {
			w.line("")
		}
		block()
	}
	w.close()
	return w.String()
}

func (s Set) print(w *writer) {
	w.open("%s %s", s.kind(), s.Name)
	w.line("type %s", s.typeText())
	if s.Size > 0 {
		w.line("size %d", s.Size)
	}
	if s.Flags != "" {
		w.line("flags %s", s.Flags)
	}
	if s.Comment != "" {
		w.line("comment %q", s.Comment)
	}
	for i, e := range s.Elements {
		before, after := "             ", ","
		if i == 0 {
			before = "elements = { "
		}
		if i == len(s.Elements)-1 {
			after = " }"
		}
		w.line("%s%s%s", before, e, after)
	}
	w.close()
}

func (s Set) kind() string {
	if s.Map {
		return "map"
	}
	return "set"
}

func (s Set) typeText() string {
	if s.Map {
		return s.Type + " : verdict"
	}
	return s.Type
}

func (c Chain) print(w *writer) {
	w.open("chain %s", c.Name)
	if c.Base != nil {
		w.line("%s", *c.Base)
	}
	for _, r := range c.Rules {
		if r.Comment != "" {
			w.line("# %s", r.Comment)
		}
		w.line("%s", r)
	}
	w.close()
}

// writer indents with one tab per open block, as nft does.
type writer struct {
	strings.Builder
	depth int
}

func (w *writer) line(format string, args ...any) {
	if format != "" {
		w.WriteString(strings.Repeat("\t", w.depth))
		fmt.Fprintf(w, format, args...)
	}
	w.WriteByte('\n')
}

func (w *writer) open(format string, args ...any) {
	w.line(format+" {", args...)
	w.depth++
}

func (w *writer) close() {
	w.depth--
	w.line("}")
}
