package netpolicy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// Counter is what has been blocked.
type Counter struct{ Packets, Bytes uint64 }

// Read gives the table as the kernel holds it, opencoded's or not. Rules that opencoded does not write print in
// the notation of `nft --debug=netlink`. The second result is false when there is no such table.
func (k *Kernel) Read(ctx context.Context, name string) (Table, bool, error) {
	tables, err := k.read(ctx, name)
	if err != nil {
		return Table{}, false, explain("read table inet "+name, err)
	}
	t, found := tables[name]
	return t, found, nil
}

// ReadAll gives the tables that carry opencoded's marker, by name.
func (k *Kernel) ReadAll(ctx context.Context) (map[string]Table, error) {
	tables, err := k.read(ctx)
	if err != nil {
		return nil, explain("read tables", err)
	}
	return tables, nil
}

// List names the tables that carry opencoded's marker, sorted.
func (k *Kernel) List(ctx context.Context) ([]string, error) {
	var names []string
	err := k.steady(ctx, func(s *socket) (err error) {
		names, err = s.marked()
		return err
	})
	if err != nil {
		return nil, explain("list tables", err)
	}
	return names, nil
}

// Counts are an instance's counters, summed over all tables. They live as long as their table: they survive every
// replacement, not `nft flush ruleset` or a reboot.
type Counts struct {
	Blocked  Counter
	Reported Counter // let pass by [Policy.Report]
}

// Counts reads the counters of all marked tables, by instance name.
func (k *Kernel) Counts(ctx context.Context) (map[string]Counts, error) {
	var counters []kernelCounter
	err := k.steady(ctx, func(s *socket) error {
		counters = nil
		ours, err := s.marked()
		for _, table := range ours {
			of, err := s.counters(table)
			if err != nil {
				return err
			}
			counters = append(counters, of...)
		}
		return err
	})
	if err != nil {
		return nil, explain("read counters", err)
	}
	counts := map[string]Counts{}
	for _, c := range counters {
		if name, ok := strings.CutPrefix(c.name, counterPrefix); ok {
			sum := counts[name]
			sum.Blocked = sum.Blocked.plus(c.Counter)
			counts[name] = sum
		}
		if name, ok := strings.CutPrefix(c.name, reportPrefix); ok {
			sum := counts[name]
			sum.Reported = sum.Reported.plus(c.Counter)
			counts[name] = sum
		}
	}
	return counts, nil
}

func (c Counter) plus(d Counter) Counter { return Counter{c.Packets + d.Packets, c.Bytes + d.Bytes} }

// marked reports whether the table is opencoded's.
func (t Table) marked() bool {
	return slices.ContainsFunc(t.Sets, func(s Set) bool { return isMarker(s) })
}

func isMarker(s Set) bool {
	return s.Name == markerSet && strings.HasPrefix(s.Comment, markerPrefix)
}

// read gives the tables of these names that exist, or without names those that carry the marker.
func (k *Kernel) read(ctx context.Context, names ...string) (tables map[string]Table, err error) {
	err = k.steady(ctx, func(s *socket) (err error) {
		tables, err = k.tables(ctx, s, names)
		return err
	})
	return tables, err
}

// tables reads rules on a socket of their own, beside the rest: either half takes as long.
func (k *Kernel) tables(ctx context.Context, s *socket, names []string) (map[string]Table, error) {
	found, err := s.existing(names)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	there := tableNames(found)
	chains := beside(func() (map[string][]Chain, error) {
		s, err := k.open(ctx)
		if err != nil {
			return nil, err
		}
		defer s.close()
		return s.chains(there)
	})
	for n := range found {
		if err = s.fill(&found[n]); err != nil {
			break
		}
	}
	of, chainsErr := chains()
	if err := errors.Join(err, chainsErr); err != nil {
		return nil, err
	}
	out := make(map[string]Table, len(found))
	for _, t := range found {
		t.Chains = of[t.Name]
		out[t.Name] = t
	}
	return out, nil
}

// existing are the tables of these names, or without names those that carry the marker, without what is in them.
func (s *socket) existing(names []string) (found []Table, err error) {
	if len(names) == 0 {
		if names, err = s.marked(); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		switch t, err := s.tableFlags(name); {
		case errors.Is(err, unix.ENOENT):
		case err != nil:
			return nil, err
		default:
			found = append(found, t)
		}
	}
	return found, nil
}

// fill reads what is in a table, except for its chains.
func (s *socket) fill(t *Table) error {
	sets, err := s.dump(unix.NFT_MSG_GETSET, inTable(t.Name)...)
	if err != nil {
		return err
	}
	if err := s.addSets(t, sets); err != nil {
		return err
	}
	counters, err := s.counters(t.Name)
	for _, c := range counters {
		t.Counters = append(t.Counters, c.name)
	}
	slices.Sort(t.Counters)
	return err
}

// tableFlags reads a table without what is in it. The error is ENOENT when it does not exist.
func (s *socket) tableFlags(name string) (Table, error) {
	t := Table{Name: name}
	answers, err := s.request(unix.NFPROTO_INET, unix.NFT_MSG_GETTABLE, 0, attribute{unix.NFTA_TABLE_NAME, name})
	for _, b := range answers {
		if attrUint(nested(b, unix.NFTA_TABLE_FLAGS)) != 0 { // any flag at all is a difference
			t.Flags = "dormant"
		}
	}
	return t, err
}

// addSets decodes sets and reads their elements.
func (s *socket) addSets(t *Table, answers [][]byte) (err error) {
	for _, b := range answers {
		set := decodeSet(b)
		if set.flags&unix.NFT_SET_ANONYMOUS != 0 {
			continue // part of a rule, which shows as one that opencoded does not write
		}
		if set.key != nil { // otherwise of a type that is a difference already
			if set.Elements, err = s.elements(set); err != nil {
				return err
			}
		}
		t.Sets = append(t.Sets, set.Set)
	}
	return nil
}

// kernelSet is a set as the kernel describes it, without its elements.
type kernelSet struct {
	Set
	table string
	key   keyType
	flags uint64
}

// marked names the tables that carry the marker, sorted.
func (s *socket) marked() ([]string, error) {
	answers, err := s.dump(unix.NFT_MSG_GETSET)
	var names []string
	for _, b := range answers {
		if set := decodeSet(b); isMarker(set.Set) {
			names = append(names, set.table)
		}
	}
	slices.Sort(names)
	return names, err
}

// inTable chooses what is in a table; NFTA_SET_TABLE, NFTA_RULE_TABLE and NFTA_OBJ_TABLE are all attribute 1.
func inTable(table string) []attribute { return []attribute{{unix.NFTA_SET_TABLE, table}} }

func decodeSet(b []byte) kernelSet {
	var s kernelSet
	for kind, value := range attributes(b) {
		switch kind {
		case unix.NFTA_SET_TABLE:
			s.table = attrText(value)
		case unix.NFTA_SET_NAME:
			s.Name = attrText(value)
		case unix.NFTA_SET_FLAGS:
			s.flags = attrUint(value)
			s.Flags, s.Map = setFlagText(s.flags), s.flags&unix.NFT_SET_MAP != 0
		case unix.NFTA_SET_KEY_TYPE:
			magic, ok := uint32(attrUint(value)), false
			if s.key, ok = keyTypeOf(magic); ok {
				s.Type = s.key.String()
			} else {
				s.Type = fmt.Sprintf("type-%d", magic)
			}
		case unix.NFTA_SET_DESC:
			s.Size = uint32(attrUint(nested(value, unix.NFTA_SET_DESC_SIZE)))
		case unix.NFTA_SET_USERDATA:
			s.Comment, _ = userdata.GetString(value, userdata.NFTNL_UDATA_SET_COMMENT)
		}
	}
	return s
}

// setFlags by their nft names (linux/netfilter/nf_tables.h), in nft's order.
var setFlags = []struct {
	bit  uint64
	name string
}{
	{unix.NFT_SET_CONSTANT, "constant"}, {unix.NFT_SET_INTERVAL, "interval"}, {unix.NFT_SET_TIMEOUT, "timeout"},
	{unix.NFT_SET_EVAL, "dynamic"}, {unix.NFT_SET_OBJECT, "object"},
}

func setFlagText(flags uint64) string {
	var names []string
	for _, f := range setFlags {
		if flags&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, ",")
}

func (s *socket) elements(set kernelSet) ([]string, error) {
	answers, err := s.dump(unix.NFT_MSG_GETSETELEM,
		attribute{unix.NFTA_SET_ELEM_LIST_TABLE, set.table}, attribute{unix.NFTA_SET_ELEM_LIST_SET, set.Name})
	if err != nil {
		return nil, err
	}
	var elements []nftables.SetElement
	for _, b := range answers {
		for _, e := range attributes(nested(b, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
			elements = append(elements, decodeElement(e))
		}
	}
	return decodeElements(set.key, set.flags&unix.NFT_SET_INTERVAL != 0, set.Map, elements), nil
}

// kernelCounter is a named counter.
type kernelCounter struct {
	Counter
	name string
}

// counters of one table.
func (s *socket) counters(table string) ([]kernelCounter, error) {
	answers, err := s.dump(unix.NFT_MSG_GETOBJ, inTable(table)...)
	var out []kernelCounter
	for _, b := range answers {
		if attrUint(nested(b, unix.NFTA_OBJ_TYPE)) != unix.NFT_OBJECT_COUNTER {
			continue
		}
		data := nested(b, unix.NFTA_OBJ_DATA)
		out = append(out, kernelCounter{name: attrText(nested(b, unix.NFTA_OBJ_NAME)), Counter: Counter{
			Packets: attrUint(nested(data, unix.NFTA_COUNTER_PACKETS)), Bytes: attrUint(nested(data, unix.NFTA_COUNTER_BYTES)),
		}})
	}
	return out, err
}

// chains of the tables, with their rules, by the table's name.
func (s *socket) chains(tables []string) (map[string][]Chain, error) {
	answers, err := s.dump(unix.NFT_MSG_GETCHAIN) // the kernel gives those of all tables, whatever is asked for
	if err != nil {
		return nil, err
	}
	of := map[string][]Chain{}
	for _, b := range answers {
		c := decodeChain(b)
		of[c.table] = append(of[c.table], c.Chain)
	}
	d := decoder{}
	for _, table := range tables {
		chains, index := of[table], map[string]int{}
		for n, c := range chains {
			index[c.Name] = n
		}
		rules, err := s.dump(unix.NFT_MSG_GETRULE, inTable(table)...)
		if err != nil {
			return nil, err
		}
		for _, b := range rules {
			if n, found := index[attrText(nested(b, unix.NFTA_RULE_CHAIN))]; found {
				chains[n].Rules = append(chains[n].Rules, d.rule(b))
			}
		}
	}
	return of, nil
}

type kernelChain struct {
	Chain
	table string
}

// hooks by their numbers (linux/netfilter.h).
var hooks = []string{"prerouting", "input", "forward", "output", "postrouting", "ingress"}

func decodeChain(b []byte) kernelChain {
	var c kernelChain
	base := Base{Policy: "accept"}
	for kind, value := range attributes(b) {
		switch kind {
		case unix.NFTA_CHAIN_TABLE:
			c.table = attrText(value)
		case unix.NFTA_CHAIN_NAME:
			c.Name = attrText(value)
		case unix.NFTA_CHAIN_TYPE:
			base.Type = attrText(value)
		case unix.NFTA_CHAIN_POLICY:
			if attrUint(value) == uint64(nftables.ChainPolicyDrop) {
				base.Policy = "drop"
			}
		case unix.NFTA_CHAIN_HOOK:
			c.Base = &base
			n := attrUint(nested(value, unix.NFTA_HOOK_HOOKNUM))
			base.Hook = fmt.Sprint(n)
			if n < uint64(len(hooks)) {
				base.Hook = hooks[n]
			}
			base.Priority = int32(attrUint(nested(value, unix.NFTA_HOOK_PRIORITY)))
		}
	}
	return c
}

// part reads of a table what another one names. The error is ENOENT when something of it does not exist.
func (s *socket) part(like Table) (Table, error) {
	t, err := s.tableFlags(like.Name)
	if err != nil {
		return t, err
	}
	for _, set := range like.Sets {
		answers, err := s.request(unix.NFPROTO_INET, unix.NFT_MSG_GETSET, 0,
			attribute{unix.NFTA_SET_TABLE, like.Name}, attribute{unix.NFTA_SET_NAME, set.Name})
		if err != nil {
			return t, err
		}
		if err := s.addSets(&t, answers); err != nil {
			return t, err
		}
	}
	d := decoder{}
	for _, chain := range like.Chains {
		in := []attribute{{unix.NFTA_CHAIN_TABLE, like.Name}, {unix.NFTA_CHAIN_NAME, chain.Name}}
		answers, err := s.request(unix.NFPROTO_INET, unix.NFT_MSG_GETCHAIN, 0, in...)
		if err != nil {
			return t, err
		}
		for _, b := range answers {
			t.Chains = append(t.Chains, decodeChain(b).Chain)
		}
		in = []attribute{{unix.NFTA_RULE_TABLE, like.Name}, {unix.NFTA_RULE_CHAIN, chain.Name}}
		if answers, err = s.dump(unix.NFT_MSG_GETRULE, in...); err != nil {
			return t, err
		}
		last := &t.Chains[len(t.Chains)-1]
		for _, b := range answers {
			last.Rules = append(last.Rules, d.rule(b))
		}
	}
	// A counter's rule refers to it, so that it exists with its rule.
	t.Counters = like.Counters
	return t, nil
}
