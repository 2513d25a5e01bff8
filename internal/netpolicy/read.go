package netpolicy

import (
	"context"
	"encoding/binary"
	"fmt"
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
	t, found, err := k.read(ctx, name)
	if err != nil {
		return Table{}, false, explain("read table inet "+name, err)
	}
	return t, found, nil
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

// Blocked sums the counters of all marked tables per instance name. Counts live as long as their table: they
// survive every replacement, not `nft flush ruleset` or a reboot.
func (k *Kernel) Blocked(ctx context.Context) (map[string]Counter, error) {
	ours, err := k.List(ctx)
	if err != nil {
		return nil, err
	}
	counters, err := k.counters(ctx, "")
	if err != nil {
		return nil, explain("read counters", err)
	}
	blocked := map[string]Counter{}
	for _, c := range counters {
		instance, ok := strings.CutPrefix(c.name, counterPrefix)
		if !ok || !slices.Contains(ours, c.table) {
			continue
		}
		sum := blocked[instance]
		blocked[instance] = Counter{sum.Packets + c.Packets, sum.Bytes + c.Bytes}
	}
	return blocked, nil
}

// marked reports whether the table is opencoded's.
func (t Table) marked() bool {
	return slices.ContainsFunc(t.Sets, func(s Set) bool { return isMarker(s) })
}

func isMarker(s Set) bool {
	return s.Name == markerSet && strings.HasPrefix(s.Comment, markerPrefix)
}

func (k *Kernel) read(ctx context.Context, name string) (t Table, found bool, err error) {
	err = k.steady(ctx, func() error {
		t, found, err = k.readOnce(ctx, name)
		return err
	})
	return t, found, err
}

func (k *Kernel) readOnce(ctx context.Context, name string) (Table, bool, error) {
	t := Table{Name: name}
	tables, err := k.conn(ctx).ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return t, false, err
	}
	i := slices.IndexFunc(tables, func(nt *nftables.Table) bool { return nt.Name == name })
	if i < 0 {
		return t, false, nil
	}
	if tables[i].Flags != 0 { // the library reads the big-endian flags natively; any flag at all is a difference
		t.Flags = "dormant"
	}
	if t.Sets, err = k.readSets(ctx, name); err != nil {
		return t, false, err
	}
	if t.Counters, err = k.readCounters(ctx, name); err != nil {
		return t, false, err
	}
	t.Chains, err = k.readChains(ctx, name)
	return t, err == nil, err
}

// kernelSet is a set as the kernel describes it, without its elements.
type kernelSet struct {
	Set
	table string
	key   keyType
	flags uint32
}

func (s kernelSet) isMarker() bool { return isMarker(s.Set) }

func (k *Kernel) readSets(ctx context.Context, table string) ([]Set, error) {
	sets, err := k.sets(ctx, table)
	if err != nil {
		return nil, err
	}
	var out []Set
	for _, s := range sets {
		if s.flags&unix.NFT_SET_ANONYMOUS != 0 {
			continue // part of a rule, which shows as one that opencoded does not write
		}
		if s.key == nil {
			out = append(out, s.Set) // of a type that is a difference already
			continue
		}
		elements, err := k.conn(ctx).GetSetElements(&nftables.Set{
			Table: &nftables.Table{Name: table, Family: nftables.TableFamilyINet}, Name: s.Name,
		})
		if err != nil {
			return nil, err
		}
		s.Elements = decodeElements(s.key, s.flags&unix.NFT_SET_INTERVAL != 0, s.Map, elements)
		out = append(out, s.Set)
	}
	return out, nil
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

func (k *Kernel) readCounters(ctx context.Context, table string) ([]string, error) {
	counters, err := k.counters(ctx, table)
	var names []string
	for _, c := range counters {
		names = append(names, c.name)
	}
	slices.Sort(names)
	return names, err
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

func (k *Kernel) readChains(ctx context.Context, table string) ([]Chain, error) {
	chains, err := k.conn(ctx).ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	var out []Chain
	index := map[string]int{}
	for _, c := range chains {
		if c.Table.Name == table {
			index[c.Name] = len(out)
			out = append(out, Chain{Name: c.Name, Base: decodeBase(c)})
		}
	}
	messages, err := k.dump(ctx, unix.NFT_MSG_GETRULE, table)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		chain, r, err := decodeRule(m)
		if err != nil {
			return nil, err
		}
		if i, ok := index[chain]; ok {
			out[i].Rules = append(out[i].Rules, r)
		}
	}
	return out, nil
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
