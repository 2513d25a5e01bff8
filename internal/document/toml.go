package document

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/pelletier/go-toml/v2/unstable"
)

// ParseTOML reads a TOML document. file is the name that positions carry. The
// returned diagnostics hold at most one finding: where the text stops being
// TOML, nothing after it can be trusted.
//
// Two libraries share the work, because neither gives the whole: BurntSushi/toml
// decodes and decides what is valid, and the syntax tree of pelletier/go-toml
// tells order and positions, which the former keeps to itself.
func ParseTOML(file string, data []byte) (*Table, Diagnostics) {
	b := builder{file: file, lines: lineStarts(data), arrays: map[*Value]bool{}, inline: map[*Value]bool{}}
	if d := bounds(file, b.lines, data); d != nil {
		return nil, Diagnostics{*d}
	}
	b.parser.Reset(data)
	root := &Value{Pos: Pos{File: file, Line: 1, Column: 1}, Data: &Table{}}
	treeErr := b.document(root)
	var values map[string]any
	if _, err := toml.Decode(string(data), &values); err != nil {
		d := syntaxError(file, err)
		var at *unstable.ParserError
		if errors.As(treeErr, &at) && at.Highlight != nil {
			// More exact: the other counts a newline that it did not expect
			// as part of the next line.
			d.Pos = b.at(int(b.parser.Range(at.Highlight).Offset))
		}
		return nil, Diagnostics{d}
	}
	if b.reopened != nil {
		return nil, Diagnostics{*b.reopened}
	}
	if treeErr != nil {
		return nil, Diagnostics{{Pos: Pos{File: file}, Message: "not valid TOML: " + treeErr.Error(), Hint: "keep to TOML 1.0"}}
	}
	if err := fill(root, values); err != nil {
		return nil, Diagnostics{{Pos: Pos{File: file}, Message: "internal error: " + err.Error()}}
	}
	return root.Table(), nil
}

func syntaxError(file string, err error) Diagnostic {
	d := Diagnostic{Pos: Pos{File: file}, Message: err.Error()}
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		return d
	}
	d.Pos.Line, d.Pos.Column = pe.Position.Line, max(pe.Position.Col, 1)
	d.Message = "not valid TOML: " + strings.TrimSuffix(pe.Message, ".")
	if pe.Usage != "" {
		hint, _, _ := strings.Cut(strings.TrimSpace(pe.Usage), "\n")
		d.Hint = strings.TrimSuffix(strings.TrimSpace(hint), ":")
	}
	return d
}

// builder turns the syntax tree into a skeleton of tables, lists and
// still empty scalars.
type builder struct {
	file   string
	parser unstable.Parser
	lines  []int           // offset at which each line begins
	arrays map[*Value]bool // lists made by [[header]], which later headers extend

	// TOML closes an inline table at its brace. BurntSushi/toml 1.6 lets a dotted
	// key add to it, which other readers of the same file refuse.
	inline   map[*Value]bool
	reopened *Diagnostic
}

func (b *builder) document(root *Value) error {
	at := root
	for b.parser.NextExpression() {
		e := b.parser.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			at = b.header(root, e)
		case unstable.KeyValue:
			b.keyValue(at, e)
		}
	}
	return b.parser.Error()
}

// header opens the table of a [header] or appends one to the list of a [[header]].
func (b *builder) header(root *Value, e *unstable.Node) *Value {
	at := root
	it := e.Key()
	for it.Next() {
		key := it.Node()
		if e.Kind == unstable.ArrayTable && it.IsLast() {
			list := b.child(at, key)
			l, _ := list.List()
			element := &Value{Pos: b.pos(key, list.Pos), Data: &Table{}}
			list.Data, b.arrays[list] = append(l, element), true
			return element
		}
		at = b.descend(at, key)
	}
	return at
}

func (b *builder) keyValue(at *Value, e *unstable.Node) {
	it := e.Key()
	for it.Next() {
		if it.IsLast() {
			v := b.child(at, it.Node())
			b.value(v, e.Value())
			return
		}
		at = b.descend(at, it.Node())
	}
}

// descend goes one key down, through the newest element of a [[list]].
func (b *builder) descend(at *Value, key *unstable.Node) *Value {
	v := b.child(at, key)
	if b.arrays[v] {
		l, _ := v.List()
		return l[len(l)-1]
	}
	if b.inline[v] && b.reopened == nil {
		b.reopened = &Diagnostic{Pos: b.pos(key, v.Pos), Hint: "write the key inside of the braces",
			Message: fmt.Sprintf("not valid TOML: %s is an inline table, and nothing can be added to it", key.Data)}
	}
	if v.Table() == nil {
		v.Data = &Table{}
	}
	return v
}

func (b *builder) child(at *Value, key *unstable.Node) *Value {
	name := string(key.Data)
	if v := at.Table().Get(name); v != nil {
		return v
	}
	pos := b.pos(key, at.Pos)
	v := &Value{Pos: pos}
	at.Table().Set(Entry{Key: name, KeyPos: pos, Value: v})
	return v
}

func (b *builder) value(v *Value, n *unstable.Node) {
	v.Pos = b.pos(n, v.Pos)
	switch n.Kind {
	case unstable.InlineTable:
		v.Data, b.inline[v] = &Table{}, true
		for it := n.Children(); it.Next(); {
			if it.Node().Kind == unstable.KeyValue {
				b.keyValue(v, it.Node())
			}
		}
	case unstable.Array:
		list := []*Value{}
		for it := n.Children(); it.Next(); {
			if it.Node().Kind == unstable.Comment {
				continue
			}
			e := &Value{Pos: v.Pos}
			b.value(e, it.Node())
			list = append(list, e)
		}
		v.Data = list
	}
}

// pos is the place of a node; a kind of node that carries none (a
// list) stands where its key does.
func (b *builder) pos(n *unstable.Node, fallback Pos) Pos {
	if n.Raw.Length == 0 {
		return fallback
	}
	return b.at(int(n.Raw.Offset))
}

func (b *builder) at(offset int) Pos { return place(b.file, b.lines, offset) }

// place turns an offset into a line and a column.
func place(file string, lines []int, offset int) Pos {
	line := sort.SearchInts(lines, offset+1)
	return Pos{File: file, Line: line, Column: offset - lines[line-1] + 1}
}

func lineStarts(data []byte) []int {
	starts := []int{0}
	for i, c := range data {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

// fill puts the decoded values into the skeleton. A mismatch means that the two
// libraries read the same text differently.
func fill(v *Value, data any) error {
	switch d := data.(type) {
	case map[string]any:
		t := v.Table()
		if t.Len() != len(d) {
			return fmt.Errorf("%s: table of %d keys read as one of %d", v.Pos, len(d), t.Len())
		}
		for e := range t.All() {
			value, ok := d[e.Key]
			if !ok {
				return fmt.Errorf("%s: key %q not decoded", e.KeyPos, e.Key)
			}
			if err := fill(e.Value, value); err != nil {
				return err
			}
		}
	case []map[string]any:
		list := make([]any, len(d))
		for i := range d {
			list[i] = d[i]
		}
		return fillList(v, list)
	case []any:
		return fillList(v, d)
	default:
		if v.Data != nil {
			return fmt.Errorf("%s: %s read as %T", v.Pos, v.Kind(), data)
		}
		v.Data = data
	}
	return nil
}

func fillList(v *Value, data []any) error {
	list, _ := v.List()
	if len(list) != len(data) {
		return fmt.Errorf("%s: list of %d read as one of %d", v.Pos, len(data), len(list))
	}
	for i, e := range list {
		if err := fill(e, data[i]); err != nil {
			return err
		}
	}
	return nil
}
