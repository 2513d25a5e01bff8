// Package document reads a configuration file into ordered values that know
// where they stand.
//
// It decides nothing about meaning: which keys exist, which values are allowed
// and how the result is used belongs to the callers (internal/instance for the
// inventory, internal/config for opencode.json). What it promises them is what
// a plain decoded map cannot give: keys in the order of the file (in an
// opencode permission map the last matching rule wins, so order is meaning) and
// the file, line and column of every key and value, so that every error names
// its place.
package document

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Pos is a place in a file. Line and Column count from 1, the column in bytes;
// a zero Line means that only the file is known.
type Pos struct {
	File   string
	Line   int
	Column int
}

// String prints the place as editors and compilers do: file:line:column.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Null is JSON's null, which TOML does not have.
type Null struct{}

// Value is one value of a document. Data holds one of: string, int64, float64,
// bool, time.Time, Null, []*Value (a list) or *Table.
type Value struct {
	Pos  Pos
	Data any
}

// Table returns the value as a table, or nil.
func (v *Value) Table() *Table {
	if v == nil {
		return nil
	}
	t, _ := v.Data.(*Table)
	return t
}

// List returns the value as a list; the second result is false for anything else.
func (v *Value) List() ([]*Value, bool) {
	if v == nil {
		return nil, false
	}
	l, ok := v.Data.([]*Value)
	return l, ok
}

// Text returns the value as a string; the second result is false for anything else.
func (v *Value) Text() (string, bool) {
	if v == nil {
		return "", false
	}
	s, ok := v.Data.(string)
	return s, ok
}

// Kind names the type in the words of the TOML specification.
func (v *Value) Kind() string {
	switch v.Data.(type) {
	case string:
		return "string"
	case int64:
		return "integer"
	case float64:
		return "float"
	case bool:
		return "boolean"
	case Null:
		return "null"
	case []*Value:
		return "array"
	case *Table:
		return "table"
	default:
		return "date or time"
	}
}

// Clone returns a deep copy: changing it never changes the original.
func (v *Value) Clone() *Value {
	c := *v
	switch d := v.Data.(type) {
	case *Table:
		c.Data = d.Clone()
	case []*Value:
		l := make([]*Value, len(d))
		for i, e := range d {
			l[i] = e.Clone()
		}
		c.Data = l
	}
	return &c
}

// Entry is one key of a table with its value. KeyPos is where the key itself
// stands, which is where an unknown key is reported.
type Entry struct {
	Key    string
	KeyPos Pos
	Value  *Value
}

// Table is a table with its keys in the order of the file.
type Table struct {
	entries []Entry
	places  map[string]int // of a large table: where each key stands in entries
}

// Len is the number of keys.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return len(t.entries)
}

// All iterates over the entries in order.
func (t *Table) All() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		if t == nil {
			return
		}
		for _, e := range t.entries {
			if !yield(e) {
				return
			}
		}
	}
}

// Get returns the value of a key, or nil.
func (t *Table) Get(key string) *Value {
	if e, ok := t.Entry(key); ok {
		return e.Value
	}
	return nil
}

// Entry returns the entry of a key.
func (t *Table) Entry(key string) (Entry, bool) {
	if t != nil {
		if i := t.index(key); i >= 0 {
			return t.entries[i], true
		}
	}
	return Entry{}, false
}

// Lookup follows a path of keys through nested tables; nil when it leads nowhere.
func (t *Table) Lookup(path ...string) *Value {
	for i, key := range path {
		v := t.Get(key)
		if v == nil || i == len(path)-1 {
			return v
		}
		t = v.Table()
	}
	return nil
}

// Set replaces the value of a key in its place, or appends a new key.
func (t *Table) Set(e Entry) {
	if i := t.index(e.Key); i >= 0 {
		t.entries[i] = e
		return
	}
	t.entries = append(t.entries, e)
	if t.places != nil {
		t.places[e.Key] = len(t.entries) - 1
	}
}

// Rename gives an entry another key, keeping its place.
func (t *Table) Rename(from, to string) {
	if i := t.index(from); i >= 0 {
		t.entries[i].Key = to
		t.places = nil
	}
}

// Delete removes a key; an absent one is no error.
func (t *Table) Delete(key string) {
	if i := t.index(key); i >= 0 {
		t.entries = slices.Delete(t.entries, i, i+1)
		t.places = nil
	}
}

// Clone returns a deep copy.
func (t *Table) Clone() *Table {
	if t == nil {
		return nil
	}
	c := &Table{entries: make([]Entry, len(t.entries))}
	for i, e := range t.entries {
		e.Value = e.Value.Clone()
		c.entries[i] = e
	}
	return c
}

// largeTable is from where on a table is searched through a map. Most tables of a
// configuration hold a handful of keys; one of a hundred thousand shall not cost
// the square of that.
const largeTable = 24

func (t *Table) index(key string) int {
	if len(t.entries) < largeTable {
		return slices.IndexFunc(t.entries, func(e Entry) bool { return e.Key == key })
	}
	if t.places == nil {
		t.places = make(map[string]int, len(t.entries))
		for i, e := range t.entries {
			if _, twice := t.places[e.Key]; !twice {
				t.places[e.Key] = i
			}
		}
	}
	if i, ok := t.places[key]; ok {
		return i
	}
	return -1
}

// Merge lays over on base and returns a new table. Tables merge key by key, in
// depth; anything else of over replaces what base has. An overridden key keeps
// its place, a new one comes last. Neither argument is changed.
func Merge(base, over *Table) *Table {
	out := base.Clone()
	if out == nil {
		out = &Table{}
	}
	for e := range over.All() {
		v := e.Value.Clone()
		if old := out.Get(e.Key); old != nil && old.Table() != nil && v.Table() != nil {
			v.Data = Merge(old.Table(), v.Table())
		}
		out.Set(Entry{Key: e.Key, KeyPos: e.KeyPos, Value: v})
	}
	return out
}

// Join spells a key path as a user would write it in the file, quoting what
// cannot stand bare.
func Join(path ...string) string {
	var b strings.Builder
	for i, key := range path {
		if i > 0 {
			b.WriteByte('.')
		}
		if key == "" || strings.ContainsFunc(key, func(r rune) bool { return !bare(r) }) {
			fmt.Fprintf(&b, "%q", key)
			continue
		}
		b.WriteString(key)
	}
	return b.String()
}

// SplitKey reads a key path as Join writes it: dotted, with quotes around what
// cannot stand bare.
func SplitKey(key string) ([]string, error) {
	var holder map[string]any
	m, err := toml.Decode(key+" = 0", &holder)
	if keys := m.Keys(); err == nil && strings.Count(key, "\n") == 0 && len(keys) > 0 {
		return keys[len(keys)-1], nil
	}
	return nil, errors.New(`not a key (write it as in a TOML file: mcp.github.url, permission.bash."git *")`)
}

func bare(r rune) bool {
	return r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}
