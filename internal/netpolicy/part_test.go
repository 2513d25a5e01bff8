package netpolicy

import (
	"slices"
	"strings"
	"testing"
)

// A part is what one instance's packets come to, and nothing of the others' but what the sets share.
func TestPartOfTables(t *testing.T) {
	r := Rules{Layout: Shared, Policies: []Policy{web, api, open}}
	for name, want := range map[string]string{
		web.Name:  GuardTable + ": output guard ports metadata blocked blocked-web\n" + SharedTable + ": output egress-web",
		open.Name: GuardTable + ": output guard ports metadata blocked blocked-" + open.Name + "\n" + SharedTable + ": output",
	} {
		parts, err := r.partsOf(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range parts {
			got = append(got, p.Name+":")
			for _, c := range p.Chains {
				got[len(got)-1] += " " + c.Name
			}
			if !p.marked() {
				t.Errorf("%s: part of %s without the marker", name, p.Name)
			}
		}
		if strings.Join(got, "\n") != want {
			t.Errorf("%s: %s, want %s", name, strings.Join(got, "\n"), want)
		}
	}
	// Others' destinations count where they name metadata addresses: those are in the guard's sets.
	named := api
	named.Allow = allow("169.254.169.254/32")
	parts, err := Rules{Layout: Shared, Policies: []Policy{web, named}}.partsOf(web.Name)
	whole := must(Guard([]Policy{web, named})).passedBy(web.UID)
	if err != nil || Diff(whole, parts[0]) != "" {
		t.Errorf("%v, %s", err, Diff(whole, parts[0]))
	}
	if _, err := r.partsOf("absent"); err == nil {
		t.Error("a part of no instance")
	}
}

// Whatever is wrong with what an instance passes is found and put right; what is wrong elsewhere is left to others.
func TestEnsurePart(t *testing.T) {
	const g, e = "inet " + GuardTable, "inet " + SharedTable
	others := []string{ // no packet of web comes to them
		"add rule " + e + " egress-api accept",
		"add element " + e + " allow4-ports { 203.0.113.0/24 }",
		"flush chain " + g + " blocked-api",
		"add table inet other",
		"add chain " + e + " more { type filter hook output priority 5; }",
	}
	own := []string{
		"flush ruleset",
		"delete table " + g,
		"delete table " + e,
		"add table " + e + " { flags dormant; }",
		"add table " + g + " { flags dormant; }",
		"flush chain " + e + " output",
		"insert rule " + e + " output accept",
		"insert rule " + e + " egress-web accept",
		"delete element " + e + " instances { 62001 }",
		"delete element " + e + " instances { 62001 }; add element " + e + " instances { 62001 : goto egress-api }",
		"add element " + e + " allow4-web { 203.0.113.0/24 }",
		"flush set " + e + " allow6-web",
		"delete element " + g + " instances { 62001 }",
		"delete element " + g + " ports { 8082 }", // of another instance, which web may not reach
		"add element " + g + " named4 { 62001 . 169.254.169.254 }",
		"add element " + g + " own { 62001 . 8082 }",
		"insert rule " + g + " guard accept",
		"flush chain " + g + " ports",
		"delete element " + g + " blocked_by { 62001 }",
		"flush chain " + g + " blocked-web",
		"flush chain " + g + " output; delete chain " + g + " output; add chain " + g + " output { type filter hook output priority 300; policy accept; }; " +
			"add rule " + g + " output meta skuid @instances goto guard",
	}
	p := web
	p.Allow = allow("10.0.0.0/8", "2001:db8::/32")
	ports := Policy{Name: "ports", UID: 62005, Port: 8085, Isolated: true, Allow: allow("192.0.2.0/24")}
	r := Rules{Layout: Shared, Policies: []Policy{p, api, ports}}
	n := newNetNS(t)
	ensured := func() []Change {
		changes, err := n.kernel.EnsurePart(t.Context(), r, p.Name)
		if err != nil {
			t.Fatal(err)
		}
		return changes
	}
	tables, err := r.Tables()
	if err != nil {
		t.Fatal(err)
	}
	ensured()
	for _, commands := range own {
		n.nft(strings.ReplaceAll(commands, "; add ", "\nadd ") + "\n")
		if changes := ensured(); len(changes) == 0 {
			t.Errorf("%s: nothing was put right", commands)
		}
		for _, table := range tables {
			if diff := n.diff(table); diff != "" {
				t.Errorf("%s: %s", commands, diff)
			}
		}
	}
	for _, commands := range others {
		n.nft(commands + "\n")
		if changes := ensured(); len(changes) > 0 {
			t.Errorf("%s: %v", commands, changes)
		}
	}
	n.nft("delete element " + e + " instances { 62001 }\n")
	if changes := ensured(); !slices.ContainsFunc(changes, func(c Change) bool { return strings.Contains(c.Diff, "egress-api") }) {
		t.Errorf("what else is wrong was not put right with it: %v", changes)
	}
}
