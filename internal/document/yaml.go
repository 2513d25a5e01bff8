package document

import (
	"bytes"
	"errors"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Markdown is a text with a head of keys, as opencode reads agents, commands and
// skills: YAML between two lines of "---", then the text itself.
type Markdown struct {
	Head    *Table
	Body    string
	BodyPos Pos
	// Mended is the whole file in valid YAML, where opencode has to repair its head,
	// which it does once: at the next reading the head would be empty.
	Mended string
	Meant  bool // Mended says what whoever wrote the head must have meant
}

// ParseMarkdown reads a markdown file with a head. Without one the whole file is
// the body and the head is empty. What opencode repairs in a head is repaired,
// with warnings.
func ParseMarkdown(file string, data []byte) (Markdown, Diagnostics) {
	text := strings.ReplaceAll(strings.TrimPrefix(string(data), "\ufeff"), "\r\n", "\n")
	m := Markdown{Head: &Table{}, Body: text, BodyPos: Pos{File: file, Line: 1, Column: 1}}
	rest, found := strings.CutPrefix(text, "---\n")
	if !found {
		return m, nil
	}
	head, body, closed := strings.Cut("\n"+rest, "\n---\n")
	if !closed {
		if head, closed = strings.CutSuffix("\n"+rest, "\n---"); !closed {
			return m, Diagnostics{{Pos: m.BodyPos, Message: "the head that begins with --- has no end", Hint: "close it with a line of ---"}}
		}
		body = ""
	}
	m.Body, m.BodyPos.Line = body, strings.Count(head, "\n")+3
	// The head begins one line down: a newline in front keeps the line numbers.
	y := yamlReader{file: file}
	v := y.document([]byte(head))
	var warnings Diagnostics
	if y.invalid {
		if again, ok := mend(file, head); ok {
			second := yamlReader{file: file, mended: &again}
			if t := second.document([]byte(again.text)); len(second.problems) == 0 {
				if warnings, m.Meant = again.findings(); warnings != nil {
					y, v = second, t
					m.Mended = "---" + again.text + "\n---\n" + m.Body
				}
			}
		}
	}
	if len(y.problems) > 0 {
		return m, y.problems
	}
	m.Head = v
	return m, warnings
}

type yamlReader struct {
	file     string
	mended   *mended // what is read, where that is not the head as it stands
	invalid  bool    // no YAML at all
	problems Diagnostics
}

func (y *yamlReader) document(text []byte) *Table {
	if len(text) > 1<<20 || bytes.ContainsRune(text, '\t') && bytes.Contains(text, []byte("\n\t")) {
		y.problems.Add(Error, Pos{File: y.file, Line: 1, Column: 1}, "indent with spaces", "the head is not valid YAML")
		return nil
	}
	f, err := parser.ParseBytes(text, 0)
	if err != nil {
		y.invalid = true
		y.problems = append(y.problems, y.syntaxError(err))
		return nil
	}
	t := &Table{}
	for _, d := range f.Docs {
		if d.Body == nil {
			continue
		}
		v := y.value(d.Body)
		if v.Table() == nil {
			if _, empty := v.Data.(Null); !empty {
				y.problems.Add(Error, v.Pos, "write key: value", "the head is %s, not keys with values", v.Kind())
			}
			continue
		}
		t = v.Table()
	}
	return t
}

func (y *yamlReader) syntaxError(err error) Diagnostic {
	d := Diagnostic{Pos: Pos{File: y.file, Line: 2, Column: 1}, Message: "the head is not valid YAML",
		Hint: `put a value that holds ": ", "#" or quotes into quotes`}
	var at interface{ GetToken() *token.Token }
	var said interface{ GetMessage() string }
	if errors.As(err, &at) && at.GetToken() != nil {
		d.Pos = y.pos(at.GetToken())
	}
	if errors.As(err, &said) {
		d.Message += ": " + said.GetMessage()
	}
	return d
}

func (y *yamlReader) pos(t *token.Token) Pos {
	if t == nil || t.Position == nil {
		return Pos{File: y.file, Line: 2, Column: 1}
	}
	p := Pos{File: y.file, Line: t.Position.Line, Column: t.Position.Column}
	if y.mended != nil {
		p = y.mended.original(p)
	}
	return p
}

func (y *yamlReader) value(n ast.Node) *Value {
	v := &Value{Pos: y.pos(n.GetToken())}
	switch d := n.(type) {
	case *ast.MappingNode:
		t := &Table{}
		for _, m := range d.Values {
			y.entry(t, m)
		}
		v.Data = t
	case *ast.MappingValueNode:
		t := &Table{}
		y.entry(t, d)
		v.Data = t
		v.Pos = y.pos(d.Key.GetToken())
	case *ast.SequenceNode:
		list := make([]*Value, len(d.Values))
		for i, e := range d.Values {
			list[i] = y.value(e)
		}
		v.Data = list
	case *ast.StringNode:
		v.Data = d.Value
	case *ast.LiteralNode:
		v.Data = d.Value.Value
	case *ast.IntegerNode:
		v.Data = integer(d.Value)
	case *ast.FloatNode:
		v.Data = d.Value
	case *ast.BoolNode:
		v.Data = d.Value
	case *ast.NullNode:
		v.Data = Null{}
	default:
		y.problems.Add(Error, v.Pos, "write the value itself", "anchors, aliases and tags of YAML are not understood here")
		v.Data = Null{}
	}
	return v
}

func (y *yamlReader) entry(t *Table, m *ast.MappingValueNode) {
	pos := y.pos(m.Key.GetToken())
	key := m.Key.GetToken().Value
	if t.Get(key) != nil {
		y.problems.Add(Error, pos, "keep one of them", "key %q is there already", key)
		return
	}
	t.Set(Entry{Key: key, KeyPos: pos, Value: y.value(m.Value)})
}

func integer(v any) any {
	switch n := v.(type) {
	case uint64:
		return int64(n)
	case int:
		return int64(n)
	}
	return v
}
