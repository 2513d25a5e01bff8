package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
)

// maxInteger is the largest integer that a JavaScript number holds exactly;
// opencode refuses larger ones.
const maxInteger = 1<<53 - 1

// check finds what TOML can say and opencode.json cannot.
func check(v *document.Value, problems *document.Diagnostics) {
	walk(v, nil, func(v *document.Value, path []string) {
		fail := func(hint, format string, args ...any) {
			problems.Add(document.Error, v.Pos, hint, "%s: %s", document.Join(path...), fmt.Sprintf(format, args...))
		}
		switch d := v.Data.(type) {
		case *document.Table, []*document.Value, string, bool, document.Null:
		case int64:
			if d > maxInteger || d < -maxInteger {
				fail("use a number up to 2^53", "%d is too large for opencode", d)
			}
		case float64:
			switch {
			case math.IsNaN(d) || math.IsInf(d, 0):
				fail("write a finite number", "JSON has no %v", d)
			case d == math.Trunc(d) && math.Abs(d) > maxInteger:
				fail("use a number up to 2^53", "%v is too large for opencode", d)
			}
		default:
			fail("write it as a string, in quotes", "JSON has no dates and times")
		}
	})
}

// lineWidth is up to where a table or list stays on one line: short things are
// read at a glance, long ones line by line in a diff.
const lineWidth = 72

// encode writes the file: what fits stays on one line, the rest is indented by
// two spaces. It ends with a newline.
func encode(t *document.Table) []byte {
	var b bytes.Buffer
	write(&b, &document.Value{Data: t}, 0)
	b.WriteByte('\n')
	return b.Bytes()
}

// encodeValue writes one value as it would stand in the file.
func encodeValue(v *document.Value) []byte {
	var b bytes.Buffer
	write(&b, v, 0)
	return b.Bytes()
}

func write(b *bytes.Buffer, v *document.Value, depth int) {
	if width(v, lineWidth-2*depth) >= 0 {
		compact(b, v)
		return
	}
	switch d := v.Data.(type) {
	case *document.Table:
		b.WriteByte('{')
		first := true
		for e := range d.All() {
			newline(b, &first, depth+1)
			quote(b, e.Key)
			b.WriteString(": ")
			write(b, e.Value, depth+1)
		}
		fmt.Fprintf(b, "\n%*s}", 2*depth, "")
	case []*document.Value:
		b.WriteByte('[')
		first := true
		for _, e := range d {
			newline(b, &first, depth+1)
			write(b, e, depth+1)
		}
		fmt.Fprintf(b, "\n%*s]", 2*depth, "")
	default:
		compact(b, v)
	}
}

// width returns what is left of a line once a value stands on it; less than zero
// means that it does not fit. It looks no further than that.
func width(v *document.Value, left int) int {
	switch d := v.Data.(type) {
	case *document.Table:
		left -= 2 + max(0, d.Len()-1)
		for e := range d.All() {
			if left < 0 {
				break
			}
			left = width(e.Value, left-quotedWidth(e.Key, left)-1)
		}
	case []*document.Value:
		left -= 2 + max(0, len(d)-1)
		for _, e := range d {
			if left < 0 {
				break
			}
			left = width(e, left)
		}
	case string:
		left -= quotedWidth(d, left)
	default:
		var b bytes.Buffer
		compact(&b, v)
		left -= b.Len()
	}
	return left
}

func quotedWidth(s string, most int) int {
	if len(s)+2 > most {
		return len(s) + 2
	}
	var b bytes.Buffer
	quote(&b, s)
	return b.Len()
}

func newline(b *bytes.Buffer, first *bool, depth int) {
	if !*first {
		b.WriteByte(',')
	}
	*first = false
	fmt.Fprintf(b, "\n%*s", 2*depth, "")
}

func compact(b *bytes.Buffer, v *document.Value) {
	comma := ""
	switch d := v.Data.(type) {
	case *document.Table:
		b.WriteByte('{')
		for e := range d.All() {
			b.WriteString(comma)
			comma = ","
			quote(b, e.Key)
			b.WriteByte(':')
			compact(b, e.Value)
		}
		b.WriteByte('}')
	case []*document.Value:
		b.WriteByte('[')
		for _, e := range d {
			b.WriteString(comma)
			comma = ","
			compact(b, e)
		}
		b.WriteByte(']')
	case string:
		quote(b, d)
	case document.Null:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(d))
	case int64:
		b.WriteString(strconv.FormatInt(d, 10))
	case float64:
		b.WriteString(strconv.FormatFloat(d, 'g', -1, 64))
	}
}

// quote writes a JSON string without escaping <, > and &, which stand in
// prompts and are nobody's HTML here.
func quote(b *bytes.Buffer, s string) {
	if !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e || r == '"' || r == '\\' }) {
		b.WriteByte('"')
		b.WriteString(s)
		b.WriteByte('"')
		return
	}
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string and a buffer: neither can fail
	b.Truncate(b.Len() - 1)
}

func quoted(s string) string {
	var b bytes.Buffer
	quote(&b, s)
	return b.String()
}
