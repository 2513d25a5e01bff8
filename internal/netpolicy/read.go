package netpolicy

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
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
	err := k.steady(ctx, func() error {
		sets, err := k.sets(ctx, "")
		names = nil
		for _, s := range sets {
			if s.isMarker() {
				names = append(names, s.table)
			}
		}
		return err
	})
	if err != nil {
		return nil, explain("list tables", err)
	}
	slices.Sort(names)
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
	ours, err := k.List(ctx)
	if err != nil {
		return nil, err
	}
	counters, err := k.counters(ctx, "")
	if err != nil {
		return nil, explain("read counters", err)
	}
	counts := map[string]Counts{}
	for _, c := range counters {
		if !slices.Contains(ours, c.table) {
			continue
		}
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
	err = k.steady(ctx, func() error {
		tables, err = k.readOnce(ctx, names)
		return err
	})
	return tables, err
}

// reading is one pass over the kernel's objects.
type reading struct {
	c      *nftables.Conn
	only   string // the one table that is asked for, or ""
	all    bool   // those with a marker are wanted
	tables map[string]*Table
}

func (k *Kernel) readOnce(ctx context.Context, names []string) (map[string]Table, error) {
	c, err := k.lasting(ctx)
	if err != nil {
		return nil, err
	}
	defer c.CloseLasting()
	listed, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	r := reading{c: c, all: len(names) == 0, tables: map[string]*Table{}}
	if len(names) == 1 {
		r.only = names[0]
	}
	wanted := make(map[string]bool, len(names))
	for _, n := range names {
		wanted[n] = true
	}
	for _, t := range listed {
		if r.all || wanted[t.Name] {
			r.tables[t.Name] = &Table{Name: t.Name}
			if t.Flags != 0 { // the library reads the big-endian flags natively; any flag at all is a difference
				r.tables[t.Name].Flags = "dormant"
			}
		}
	}
	for _, part := range []func(context.Context, reading) error{k.readSets, k.readCounters, k.readChains} {
		if len(r.tables) == 0 {
			return nil, nil
		}
		if err := part(ctx, r); err != nil {
			return nil, err
		}
	}
	out := make(map[string]Table, len(r.tables))
	for name, t := range r.tables {
		out[name] = *t
	}
	return out, nil
}

// kernelSet is a set as the kernel describes it, without its elements.
type kernelSet struct {
	Set
	table string
	key   keyType
	flags uint32
}

func (s kernelSet) isMarker() bool { return isMarker(s.Set) }

// readSets also drops the tables without marker where all were asked for.
func (k *Kernel) readSets(ctx context.Context, r reading) error {
	sets, err := k.sets(ctx, r.only)
	if err != nil {
		return err
	}
	marked := map[string]bool{}
	for _, s := range sets {
		marked[s.table] = marked[s.table] || s.isMarker()
	}
	maps.DeleteFunc(r.tables, func(name string, _ *Table) bool { return r.all && !marked[name] })
	for _, s := range sets {
		t := r.tables[s.table]
		if t == nil || s.flags&unix.NFT_SET_ANONYMOUS != 0 {
			continue // anonymous: part of a rule, which shows as one that opencoded does not write
		}
		if s.key != nil { // otherwise of a type that is a difference already
			elements, err := r.c.GetSetElements(&nftables.Set{
				Table: &nftables.Table{Name: s.table, Family: nftables.TableFamilyINet}, Name: s.Name,
			})
			if err != nil {
				return err
			}
			s.Elements = decodeElements(s.key, s.flags&unix.NFT_SET_INTERVAL != 0, s.Map, elements)
		}
		t.Sets = append(t.Sets, s.Set)
	}
	return nil
}

// sets is a dump of its own because google/nftables 0.3 reads neither a set's comment nor a map's key type.
func (k *Kernel) sets(ctx context.Context, table string) ([]kernelSet, error) {
	messages, err := k.dump(ctx, unix.NFT_MSG_GETSET, table)
	if err != nil {
		return nil, err
	}
	out := make([]kernelSet, len(messages))
	for i, m := range messages {
		if out[i], err = decodeSet(m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func decodeSet(m netlink.Message) (kernelSet, error) {
	var s kernelSet
	ad, err := attributes(m)
	if err != nil {
		return s, err
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_SET_TABLE:
			s.table = ad.String()
		case unix.NFTA_SET_NAME:
			s.Name = ad.String()
		case unix.NFTA_SET_FLAGS:
			s.flags = ad.Uint32()
			s.Flags, s.Map = setFlagText(s.flags), s.flags&unix.NFT_SET_MAP != 0
		case unix.NFTA_SET_KEY_TYPE:
			magic, ok := ad.Uint32(), false
			if s.key, ok = keyTypeOf(magic); ok {
				s.Type = s.key.String()
			} else {
				s.Type = fmt.Sprintf("type-%d", magic)
			}
		case unix.NFTA_SET_USERDATA:
			s.Comment, _ = userdata.GetString(ad.Bytes(), userdata.NFTNL_UDATA_SET_COMMENT)
		}
	}
	return s, ad.Err()
}

// setFlags by their nft names (linux/netfilter/nf_tables.h), in nft's order.
var setFlags = []struct {
	bit  uint32
	name string
}{
	{unix.NFT_SET_CONSTANT, "constant"}, {unix.NFT_SET_INTERVAL, "interval"}, {unix.NFT_SET_TIMEOUT, "timeout"},
	{unix.NFT_SET_EVAL, "dynamic"}, {unix.NFT_SET_OBJECT, "object"},
}

func setFlagText(flags uint32) string {
	var names []string
	for _, f := range setFlags {
		if flags&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, ",")
}

func (k *Kernel) readCounters(ctx context.Context, r reading) error {
	counters, err := k.counters(ctx, r.only)
	for _, c := range counters {
		if t := r.tables[c.table]; t != nil {
			t.Counters = append(t.Counters, c.name)
		}
	}
	for _, t := range r.tables {
		slices.Sort(t.Counters)
	}
	return err
}

// kernelCounter is a named counter.
type kernelCounter struct {
	Counter
	table, name string
}

// counters is a dump of its own because google/nftables 0.3 panics on objects of kinds that it does not know, and
// the dump of all tables holds those of other programs.
func (k *Kernel) counters(ctx context.Context, table string) ([]kernelCounter, error) {
	messages, err := k.dump(ctx, unix.NFT_MSG_GETOBJ, table)
	if err != nil {
		return nil, err
	}
	var out []kernelCounter
	for _, m := range messages {
		c, isCounter, err := decodeCounter(m)
		if err != nil {
			return nil, err
		}
		if isCounter {
			out = append(out, c)
		}
	}
	return out, nil
}

func decodeCounter(m netlink.Message) (c kernelCounter, isCounter bool, err error) {
	ad, err := attributes(m)
	if err != nil {
		return c, false, err
	}
	var value expr.Counter
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_OBJ_TABLE:
			c.table = ad.String()
		case unix.NFTA_OBJ_NAME:
			c.name = ad.String()
		case unix.NFTA_OBJ_TYPE:
			isCounter = ad.Uint32() == unix.NFT_OBJECT_COUNTER
		case unix.NFTA_OBJ_DATA:
			if isCounter { // the kernel writes the type before the data (nf_tables_fill_obj_info)
				ad.Do(func(b []byte) error { return expr.Unmarshal(unix.NFPROTO_INET, b, &value) })
			}
		}
	}
	c.Counter = Counter{value.Packets, value.Bytes}
	return c, isCounter, ad.Err()
}

func (k *Kernel) readChains(ctx context.Context, r reading) error {
	chains, err := r.c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return err
	}
	type place struct{ table, chain string }
	index := map[place]int{}
	for _, c := range chains {
		if t := r.tables[c.Table.Name]; t != nil {
			index[place{t.Name, c.Name}] = len(t.Chains)
			t.Chains = append(t.Chains, Chain{Name: c.Name, Base: decodeBase(c)})
		}
	}
	messages, err := k.dump(ctx, unix.NFT_MSG_GETRULE, r.only)
	if err != nil {
		return err
	}
	for _, m := range messages {
		table, chain, decoded, err := decodeRule(m, r.tables)
		if err != nil {
			return err
		}
		if i, ok := index[place{table, chain}]; ok {
			t := r.tables[table]
			t.Chains[i].Rules = append(t.Chains[i].Rules, decoded)
		}
	}
	return nil
}

// hooks of family inet by their numbers (linux/netfilter.h).
var hooks = []string{"prerouting", "input", "forward", "output", "postrouting", "ingress"}

func decodeBase(c *nftables.Chain) *Base {
	if c.Hooknum == nil || c.Priority == nil {
		return nil
	}
	b := &Base{Type: string(c.Type), Priority: int32(*c.Priority), Policy: "accept", Hook: fmt.Sprint(*c.Hooknum)}
	if int(*c.Hooknum) < len(hooks) {
		b.Hook = hooks[*c.Hooknum]
	}
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		b.Policy = "drop"
	}
	return b
}

// attributes decodes the attributes of a message, whose numbers are big-endian in nf_tables.
func attributes(m netlink.Message) (*netlink.AttributeDecoder, error) {
	const nfgenmsg = 4 // bytes of struct nfgenmsg
	if len(m.Data) < nfgenmsg {
		return nil, fmt.Errorf("a message of %d bytes from the kernel", len(m.Data))
	}
	ad, err := netlink.NewAttributeDecoder(m.Data[nfgenmsg:])
	if err == nil {
		ad.ByteOrder = binary.BigEndian
	}
	return ad, err
}
