package netpolicy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// transaction is one netlink batch for one table: the kernel applies all of it or nothing. What no rule refers to yet
// may be a batch of its own before it. It collects operations, keeps its first error, and prints itself as the nft
// commands that do the same.
type transaction struct {
	table  *nftables.Table
	ops    []operation
	ahead  int               // how many of the operations are the batch before
	setIDs map[string]uint32 // of the sets declared in this batch
	err    error
}

type operation struct {
	text  func() string
	apply func(*nftables.Conn) error
}

// elementsPerMessage keeps one message's list within the 64 KiB of a netlink attribute: 10,000 elements in one
// message are stored as a few hundred, without an error.
const elementsPerMessage = 500

func newTransaction(name string) *transaction {
	return &transaction{
		table:  &nftables.Table{Name: name, Family: nftables.TableFamilyINet},
		setIDs: map[string]uint32{},
	}
}

// String is the batch in nft syntax, one command a line.
func (tx *transaction) String() string {
	var b strings.Builder
	for _, op := range tx.ops {
		b.WriteString(op.text() + "\n")
	}
	return b.String()
}

// commit sends the batches.
func (tx *transaction) commit(ctx context.Context, k *Kernel) error { return tx.prepare()(ctx, k) }

// prepare begins to encode the batches, which takes half as long as the kernel takes to apply them, and returns what
// sends them.
func (tx *transaction) prepare() func(context.Context, *Kernel) error {
	var batches []func() (*batch, error)
	for _, ops := range [][]operation{tx.ops[:tx.ahead], tx.ops[tx.ahead:]} {
		if len(ops) > 0 {
			batches = append(batches, beside(func() (*batch, error) { return encode(ops) }))
		}
	}
	return func(ctx context.Context, k *Kernel) error {
		if tx.err != nil {
			return tx.err
		}
		for _, encoded := range batches {
			b, err := encoded()
			if err != nil {
				return err
			}
			if err := k.apply(ctx, b); err != nil {
				return err
			}
		}
		return nil
	}
}

func (tx *transaction) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

// do adds an operation that cannot fail before it is sent.
func (tx *transaction) do(apply func(*nftables.Conn), format string, args ...any) {
	tx.ops = append(tx.ops, operation{
		text:  func() string { return fmt.Sprintf(format, args...) },
		apply: func(c *nftables.Conn) error { apply(c); return nil },
	})
}

func (tx *transaction) try(apply func(*nftables.Conn) error, text func() string) {
	tx.ops = append(tx.ops, operation{text, apply})
}

// createTable fails when the table exists: of two processes that both found none, one reads again.
func (tx *transaction) createTable() {
	tx.do(func(c *nftables.Conn) { c.CreateTable(tx.table) }, "create table inet %s", tx.table.Name)
}

// wakeTable takes the dormant flag off. It is a batch of its own: together with the deletion of a base chain the
// kernel refuses it (EINVAL, measured on 6.18).
func (tx *transaction) wakeTable() {
	tx.do(func(c *nftables.Conn) { c.AddTable(tx.table) }, "add table inet %s", tx.table.Name)
}

func (tx *transaction) deleteTable() {
	tx.do(func(c *nftables.Conn) { c.DelTable(tx.table) }, "delete table inet %s", tx.table.Name)
}

// flushChain deletes the chain's rules.
func (tx *transaction) flushChain(name string) {
	chain := &nftables.Chain{Table: tx.table, Name: name}
	tx.do(func(c *nftables.Conn) { c.FlushChain(chain) }, "flush chain inet %s %s", tx.table.Name, name)
}

func (tx *transaction) deleteSet(s Set) {
	set := &nftables.Set{Table: tx.table, Name: s.Name}
	tx.do(func(c *nftables.Conn) { c.DelSet(set) }, "delete %s inet %s %s", s.kind(), tx.table.Name, s.Name)
}

func (tx *transaction) deleteChain(name string) {
	chain := &nftables.Chain{Table: tx.table, Name: name}
	tx.do(func(c *nftables.Conn) { c.DelChain(chain) }, "delete chain inet %s %s", tx.table.Name, name)
}

func (tx *transaction) deleteCounter(name string) {
	tx.do(func(c *nftables.Conn) { c.DeleteObject(tx.counter(name)) }, "delete counter inet %s %s", tx.table.Name, name)
}

func (tx *transaction) addCounter(name string) {
	tx.do(func(c *nftables.Conn) { c.AddObj(tx.counter(name)) }, "add counter inet %s %s", tx.table.Name, name)
}

func (tx *transaction) counter(name string) *nftables.NamedObj {
	return &nftables.NamedObj{Table: tx.table, Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}}
}

// addSet declares the set; its elements follow later, as those of a map refer to chains.
func (tx *transaction) addSet(s Set) {
	key, err := parseKeyType(s.Type)
	if err != nil {
		tx.fail(err)
		return
	}
	datatype, err := key.datatype()
	if err != nil {
		tx.fail(err)
		return
	}
	// Not left to the library: it counts in a variable that all connections share without a lock.
	tx.setIDs[s.Name] = uint32(len(tx.setIDs) + 1)
	set := &nftables.Set{
		Table: tx.table, ID: tx.setIDs[s.Name], Name: s.Name, KeyType: datatype,
		Interval: s.Flags == "interval", Size: s.Size, IsMap: s.Map, Comment: s.Comment,
	}
	if len(key) == 1 {
		set.KeyByteOrder = key[0].order
	} else {
		set.Concatenation = set.Interval
	}
	if s.Map {
		set.DataType = nftables.TypeVerdict
	}
	tx.try(func(c *nftables.Conn) error { return c.AddSet(set, nil) }, func() string {
		text := fmt.Sprintf("add %s inet %s %s { type %s; ", s.kind(), tx.table.Name, s.Name, s.typeText())
		if s.Size > 0 {
			text += fmt.Sprintf("size %d; ", s.Size)
		}
		if s.Flags != "" {
			text += "flags " + s.Flags + "; "
		}
		if s.Comment != "" {
			text += fmt.Sprintf("comment %q; ", s.Comment)
		}
		return text + "}"
	})
}

// addElements fills the set; fresh says that it was declared in this batch.
func (tx *transaction) addElements(s Set, fresh bool) {
	tx.elements("add", s, fresh, (*nftables.Conn).SetAddElements)
}

func (tx *transaction) deleteElements(s Set) {
	tx.elements("delete", s, false, (*nftables.Conn).SetDeleteElements)
}

func (tx *transaction) elements(verb string, s Set, fresh bool, send func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) {
	elements, err := s.encodeElements()
	if err != nil {
		tx.fail(err)
		return
	}
	if len(elements) == 0 {
		return
	}
	if fresh && s.Flags == "interval" && elements[0].KeyEnd == nil {
		elements = append(lowestEnd(elements[0]), elements...)
	}
	set := &nftables.Set{Table: tx.table, ID: tx.setIDs[s.Name], Name: s.Name}
	tx.try(func(c *nftables.Conn) error {
		for chunk := range slices.Chunk(elements, elementsPerMessage) {
			if err := send(c, set, chunk); err != nil {
				return err
			}
		}
		return nil
	}, func() string {
		return fmt.Sprintf("%s element inet %s %s { %s }", verb, tx.table.Name, s.Name, strings.Join(s.Elements, ", "))
	})
}

func (tx *transaction) addChain(chain Chain) {
	c := &nftables.Chain{Table: tx.table, Name: chain.Name}
	text := ""
	if b := chain.Base; b != nil {
		if b.Type != "filter" || b.Hook != "output" || b.Policy != "accept" {
			tx.fail(fmt.Errorf("internal error: base chain %s: %s", chain.Name, *b))
			return
		}
		policy := nftables.ChainPolicyAccept
		c.Type, c.Hooknum, c.Policy = nftables.ChainTypeFilter, nftables.ChainHookOutput, &policy
		c.Priority = nftables.ChainPriorityRef(nftables.ChainPriority(b.Priority))
		text = " { " + b.String() + " }"
	}
	tx.do(func(conn *nftables.Conn) { conn.AddChain(c) }, "add chain inet %s %s%s", tx.table.Name, chain.Name, text)
}

func (tx *transaction) addRule(chain string, r Rule) {
	var list []expr.Any
	for _, s := range r.Statements {
		part, err := s.exprs()
		if err != nil {
			tx.fail(err)
			return
		}
		list = append(list, part...)
	}
	nr := &nftables.Rule{Table: tx.table, Chain: &nftables.Chain{Name: chain}, Exprs: list}
	tx.do(func(c *nftables.Conn) { c.AddRule(nr) }, "add rule inet %s %s %s", tx.table.Name, chain, r)
}
