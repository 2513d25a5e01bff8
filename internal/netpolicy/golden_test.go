package netpolicy

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables/expr"
)

var (
	web = Policy{
		Name: "web", User: "opencode-web", UID: 62001, Port: 8081, Isolated: true,
		Allow: allow("10.0.0.0/8", "10.1.2.3/16", "192.0.2.0/25", "192.0.2.128/26", "169.254.169.254/32", "2001:db8::/32"),
	}
	api = Policy{
		Name: "api", User: "opencode-api", UID: 62002, Port: 8082, Locked: true, Isolated: true,
		OnBlock: Reject, LogRate: Rate{1, "second"},
	}
	open  = Policy{Name: "open-end", User: "opencode-open-end", UID: 100_000, Port: 9000, Locked: true}
	ports = Policy{
		Name: "ports", UID: 62005, Port: 9002, Isolated: true, NoDNS: true,
		Allow: allow("10.0.0.0/8", "10.1.0.0/16:443", "192.0.2.7:5432", "192.0.2.0/24:443", "[2001:db8::/64]:443", "198.51.100.1:53/udp", "[2001:db8::53]:53/udp"),
	}
	report = Policy{Name: "report", UID: 62006, Port: 9003, Isolated: true, Report: true, OnBlock: Reject, Allow: allow("192.0.2.0/24:443")}
	anyway = Policy{Name: "anyway", UID: 62004, Port: 9001, Isolated: true, Allow: allow("0.0.0.0/0", "::/0")}
)

// samples are the tables of the goldens; the kernel tests use them too.
func samples() map[string]Table {
	return map[string]Table{
		"egress":        must(Egress(web)),
		"egress-reject": must(Egress(api)),
		"egress-any":    must(Egress(anyway)),
		"egress-ports":  must(Egress(ports)),
		"egress-report": must(Egress(report)),
		"shared":        must(SharedEgress([]Policy{report, web, api, ports})),
		"guard":         must(Guard([]Policy{open, web, api})),
		"guard-empty":   must(Guard(nil)),
	}
}

func TestGolden(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(samples())) {
		t.Run(name, func(t *testing.T) {
			text := samples()[name].String()
			golden(t, name+".nft", text)
			if out, err := newNetNS(t).command(text, "nft", "-c", "-f", "-"); err != nil {
				t.Errorf("nft refuses it: %v\n%s", err, out)
			}
		})
	}
}

// Two spellings of a policy, or another order of policies, give the same bytes.
func TestSameInputSameText(t *testing.T) {
	spelled := web
	spelled.Allow = slices.Clone(web.Allow)
	slices.Reverse(spelled.Allow)
	if a, b := must(Egress(web)).String(), must(Egress(spelled)).String(); a != b {
		t.Errorf("%s\ndiffers from\n%s", a, b)
	}
	a, b := must(Guard([]Policy{web, api, open})), must(Guard([]Policy{open, api, web}))
	if a.String() != b.String() {
		t.Errorf("%s\ndiffers from\n%s", a, b)
	}
}

func TestEgressOfOpenInstance(t *testing.T) {
	if _, err := Egress(open); err == nil {
		t.Error("a table for an instance that is not isolated")
	}
}

// The batches that lead to a table, in nft syntax. TestTransactionText shows that nft does the same with the text.
func TestReplacementGolden(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(replacements())) {
		r := replacements()[name]
		tx := replacement(r.have, r.want, false)
		if tx.err != nil {
			t.Fatal(tx.err)
		}
		golden(t, "replace-"+name+".nft", tx.String())
	}
}

type step struct {
	have *Table
	want Table
}

func replacements() map[string]step {
	before, guard := must(Egress(web)), must(Guard([]Policy{web, open}))
	edited := must(Egress(web))
	edited.Counters = append(edited.Counters, "stray")
	edited.Sets = append(edited.Sets, Set{Name: "stray", Type: "uid"})
	edited.Chains[0].Base = &Base{Type: "filter", Hook: "output", Priority: 5, Policy: "accept"}
	edited.Chains = append(edited.Chains, Chain{Name: "stray"})
	narrowed := web
	narrowed.Allow = allow("192.0.2.1/32")
	return map[string]step{
		"create":  {nil, before},
		"narrow":  {&before, must(Egress(narrowed))},
		"repair":  {&edited, before},
		"guarded": {&guard, must(Guard([]Policy{web, api}))},
	}
}

func TestTransactionKeepsFirstError(t *testing.T) {
	tx := newTransaction("opencode-web")
	tx.addRule("egress", rule(Raw{"dup"}))
	tx.addRule("egress", rule(Match{"no such field", "1"}))
	tx.addSet(Set{Name: "x", Type: "no such type"})
	if err := tx.commit(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "cannot write [ dup ]") {
		t.Errorf("%v", err)
	}
}

// What is written reads back as the same statements, without a kernel between.
func TestStatementsDecode(t *testing.T) {
	for _, table := range samples() {
		checkDecodes(t, table)
	}
}

func checkDecodes(t *testing.T, table Table) {
	t.Helper()
	for _, chain := range table.Chains {
		for _, r := range chain.Rules {
			var list []expr.Any
			for _, s := range r.Statements {
				part, err := s.exprs()
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, part...)
			}
			if got := decodeStatements(list); !slices.Equal(got, r.Statements) {
				t.Errorf("%s reads back as %v", r, got)
			}
		}
	}
	for _, s := range table.Sets {
		if s.Map {
			continue // a verdict reads back only through the kernel
		}
		elements, err := s.encodeElements()
		if err != nil {
			t.Fatal(err)
		}
		key, _ := parseKeyType(s.Type)
		if got := decodeElements(key, s.Flags == "interval", false, elements); !reflect.DeepEqual(got, s.Elements) && len(got)+len(s.Elements) > 0 {
			t.Errorf("set %s: %v reads back as %v", s.Name, s.Elements, got)
		}
	}
}

// A statement is recognised only as a whole: near misses are Raw.
func TestNearMissesAreRaw(t *testing.T) {
	direction := func(op expr.CmpOp) []expr.Any {
		return []expr.Any{ctDirection(1), &expr.Cmp{Op: op, Register: 1, Data: []byte{1}}}
	}
	if got := decodeStatements(direction(expr.CmpOpEq)); !slices.Equal(got, []Statement{Match{"ct direction", "reply"}}) {
		t.Errorf("%v", got)
	}
	for name, list := range map[string][]expr.Any{
		"negated":       direction(expr.CmpOpNeq),
		"negated set":   {meta(expr.MetaKeySKUID)(1), &expr.Lookup{SourceRegister: 1, SetName: "own", Invert: true}},
		"over limit":    {&expr.Limit{Rate: 5, Unit: expr.LimitTimeMinute, Burst: 5, Over: true}},
		"bytes limit":   {&expr.Limit{Rate: 5, Unit: expr.LimitTimeMinute, Burst: 5, Type: expr.LimitTypePktBytes}},
		"log group":     {&expr.Log{Key: 1<<2 | 1<<1, Group: 1, Data: []byte("x")}},
		"log level":     {&expr.Log{Key: 1<<2 | 1<<5, Level: expr.LogLevelDebug, Data: []byte("x")}},
		"without need":  {network(16, 4)(1), &expr.Lookup{SourceRegister: 1, SetName: "allow4"}},
		"other quality": {unknown{name: "rt"}, &expr.Verdict{Kind: expr.VerdictAccept}},
	} {
		if got := decodeStatements(list); !slices.ContainsFunc(got, func(s Statement) bool { _, raw := s.(Raw); return raw }) {
			t.Errorf("%s reads as %v", name, got)
		}
	}
}
