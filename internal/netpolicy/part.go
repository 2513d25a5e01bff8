package netpolicy

import (
	"fmt"
	"slices"
	"strings"
)

// partsOf are the tables of an instance without what none of its packets comes to.
func (r Rules) partsOf(name string) ([]Table, error) {
	n := slices.IndexFunc(r.Policies, func(p Policy) bool { return p.Name == name })
	if n < 0 {
		return nil, fmt.Errorf("internal error: no policy of instance %q", name)
	}
	own := r.Policies[n]
	r.Policies = slices.Clone(r.Policies)
	for i, p := range r.Policies {
		if i != n && len(p.Metadata()) == 0 { // of others' destinations only those count, in the guard
			r.Policies[i].Allow = nil
		}
	}
	tables, err := r.TablesOf(name)
	for i, t := range tables {
		tables[i] = t.passedBy(own.UID)
	}
	return tables, err
}

// passedBy is the table without what no packet of the user comes to: from the base chains on, everything that a rule
// refers to, of a map only where the user's own element leads. Sets stay whole, and so does the marker.
//
// What it leaves out cannot let a packet pass that the rest blocks. Every base chain that sees a packet can drop it,
// and none can accept it for another, whatever else is in the table; what is in a chain or set that is left in is all
// compared.
func (t Table) passedBy(uid uint32) Table {
	chains, sets := byName(t.Chains, chainName), byName(t.Sets, setName)
	seen, counters := map[string]bool{}, map[string]bool{}
	var visit func(chain string)
	visit = func(chain string) {
		if seen["chain "+chain] {
			return
		}
		seen["chain "+chain] = true
		for _, r := range chains[chain].Rules {
			for _, s := range r.Statements {
				switch s := s.(type) {
				case Lookup:
					seen["set "+s.Set] = true
				case Count:
					counters[s.Counter] = true
				case Verdict:
					if s.Chain != "" {
						visit(s.Chain)
					}
				case VMap:
					seen["set "+s.Map] = true
					for _, e := range sets[s.Map].Elements {
						if verdict, own := strings.CutPrefix(e, uidText(uid)+" : "); own {
							if _, chain, jumps := strings.Cut(verdict, " "); jumps {
								visit(chain)
							}
						}
					}
				}
			}
		}
	}
	for _, c := range t.Chains {
		if c.Base != nil {
			visit(c.Name)
		}
	}
	part := Table{Name: t.Name, Flags: t.Flags}
	for _, s := range t.Sets {
		if seen["set "+s.Name] || isMarker(s) {
			part.Sets = append(part.Sets, s)
		}
	}
	for _, c := range t.Chains {
		if seen["chain "+c.Name] {
			part.Chains = append(part.Chains, c)
		}
	}
	for _, c := range t.Counters {
		if counters[c] {
			part.Counters = append(part.Counters, c)
		}
	}
	return part
}
