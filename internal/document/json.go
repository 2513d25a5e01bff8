package document

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/tailscale/hujson"

	"github.com/opencoded/opencoded/internal/lazy"
)

// Bounds of a document. Both are far beyond any configuration and keep a hostile
// file from taking the memory or the stack of whoever reads it.
const (
	maxSize  = 64 << 20 // bytes
	maxDepth = 500      // of lists and tables in each other
)

// ParseJSON reads a JSON document in the dialect that opencode accepts: with
// comments and trailing commas, with a byte order mark or CRLF, and empty, but
// not of blanks alone. null is a value of its own (Null). A key that stands
// twice in one object is an error: readers differ in which of the two counts.
func ParseJSON(file string, data []byte) (*Table, Diagnostics) {
	j := jsonReader{file: file, data: bytes.TrimPrefix(data, []byte("\ufeff"))}
	j.lines = lineStarts(j.data)
	if len(j.data) == 0 {
		return &Table{}, nil
	}
	if len(bytes.TrimSpace(j.data)) == 0 {
		return nil, Diagnostics{{Pos: j.at(0), Message: "not valid JSON: nothing but blanks, which opencode refuses", Hint: "write {}, or leave the file empty"}}
	}
	if d := bounds(file, j.lines, j.data); d != nil {
		return nil, Diagnostics{*d}
	}
	parsed, err := hujson.Parse(closed(j.data))
	if err != nil {
		return nil, Diagnostics{j.syntaxError(err)}
	}
	v := j.value(&parsed)
	t := v.Table()
	if t == nil && len(j.problems) == 0 {
		j.problems.Add(Error, v.Pos, "write { … }", "the document is %s, not an object", v.Kind())
	}
	if len(j.problems) > 0 {
		return nil, j.problems
	}
	return t, nil
}

// closed ends a last line that is a comment: the parser wants it to end, and
// opencode does not.
func closed(data []byte) []byte {
	last := data[bytes.LastIndexByte(data, '\n')+1:]
	if !bytes.Contains(last, []byte("//")) {
		return data
	}
	return append(data[:len(data):len(data)], '\n')
}

type jsonReader struct {
	file     string
	data     []byte
	lines    []int
	problems Diagnostics
}

// bounds refuses what a parser must not see: parsers recurse, and take their
// input for text. Braces in strings and comments count too: too careful, never
// too lax.
func bounds(file string, lines []int, data []byte) *Diagnostic {
	if len(data) > maxSize {
		return &Diagnostic{Pos: Pos{File: file}, Message: fmt.Sprintf("is larger than %d MiB", maxSize>>20)}
	}
	if !utf8.Valid(data) {
		return &Diagnostic{Pos: place(file, lines, invalidUTF8(data)), Message: "not valid UTF-8", Hint: "save the file as UTF-8"}
	}
	depth := 0
	for i, c := range data {
		switch c {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if depth > maxDepth {
			return &Diagnostic{Pos: place(file, lines, i), Message: fmt.Sprintf("is nested more than %d deep", maxDepth)}
		}
	}
	return nil
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(data)
}

var hujsonPlace = lazy.MustCompile(`^hujson: line ([0-9]+), column ([0-9]+): `)

func (j *jsonReader) syntaxError(err error) Diagnostic {
	d := Diagnostic{Pos: Pos{File: j.file}, Message: "not valid JSON: " + err.Error()}
	if m := hujsonPlace.FindStringSubmatch(err.Error()); m != nil {
		d.Pos.Line, _ = strconv.Atoi(m[1])
		d.Pos.Column, _ = strconv.Atoi(m[2])
		d.Message = "not valid JSON: " + err.Error()[len(m[0]):]
	}
	return d
}

func (j *jsonReader) at(offset int) Pos { return place(j.file, j.lines, offset) }

func (j *jsonReader) value(v *hujson.Value) *Value {
	out := &Value{Pos: j.at(v.StartOffset)}
	switch d := v.Value.(type) {
	case *hujson.Object:
		out.Data = j.object(d)
	case *hujson.Array:
		list := make([]*Value, len(d.Elements))
		for i := range d.Elements {
			list[i] = j.value(&d.Elements[i])
		}
		out.Data = list
	case hujson.Literal:
		out.Data = j.literal(d, out.Pos)
	}
	return out
}

func (j *jsonReader) object(o *hujson.Object) *Table {
	t := &Table{entries: make([]Entry, 0, len(o.Members))}
	for i := range o.Members {
		m := &o.Members[i]
		name, _ := m.Name.Value.(hujson.Literal)
		e := Entry{Key: text(name), KeyPos: j.at(m.Name.StartOffset), Value: j.value(&m.Value)}
		if first, twice := t.Entry(e.Key); twice {
			j.problems.Add(Error, e.KeyPos, "keep one of them", "key %q is there already, at line %d", e.Key, first.KeyPos.Line)
			continue
		}
		t.Set(e)
	}
	return t
}

// text is what a string says; most need no decoding.
func text(l hujson.Literal) string {
	if n := len(l); n >= 2 && l[0] == '"' && bytes.IndexByte(l, '\\') < 0 {
		return string(l[1 : n-1])
	}
	return l.String()
}

// literal keeps an integer an integer, as long as 64 bits hold it.
func (j *jsonReader) literal(l hujson.Literal, pos Pos) any {
	switch l.Kind() {
	case 'n':
		return Null{}
	case 't', 'f':
		return l.Bool()
	case '"':
		return text(l)
	}
	if n, err := strconv.ParseInt(string(l), 10, 64); err == nil {
		return n
	}
	f, err := strconv.ParseFloat(string(l), 64)
	if err != nil {
		j.problems.Add(Error, pos, "", "%s is too large for a number", l)
	}
	return f
}
