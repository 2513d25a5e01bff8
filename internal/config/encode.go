package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/opencoded/opencoded/internal/document"
)

// maxInteger is the largest integer that a JavaScript number holds exactly;
// opencode refuses larger ones.
const maxInteger = 1<<53 - 1

// check finds what TOML can say and opencode.json cannot.
func check(v *document.Value, problems *document.Diagnostics) {
	switch d := v.Data.(type) {
	case *document.Table:
		for e := range d.All() {
			check(e.Value, problems)
		}
	case []*document.Value:
		for _, e := range d {
			check(e, problems)
		}
	case string, bool, document.Null:
	case int64:
		if d > maxInteger || d < -maxInteger {
			problems.Add(document.Error, v.Pos, "use a number up to 2^53", "%d is too large for opencode", d)
		}
	case float64:
		if math.IsNaN(d) || math.IsInf(d, 0) {
			problems.Add(document.Error, v.Pos, "write a finite number", "JSON has no %v", d)
		}
	default:
		problems.Add(document.Error, v.Pos, "write it as a string, in quotes", "JSON has no dates and times")
	}
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
	start := b.Len()
	compact(b, v)
	if b.Len()-start+2*depth <= lineWidth {
		return
	}
	switch d := v.Data.(type) {
	case *document.Table:
		b.Truncate(start)
		b.WriteByte('{')
		first := true
		for e := range d.All() {
			newline(b, &first, depth+1)
			b.Write(quote(e.Key))
			b.WriteString(": ")
			write(b, e.Value, depth+1)
		}
		fmt.Fprintf(b, "\n%*s}", 2*depth, "")
	case []*document.Value:
		b.Truncate(start)
		b.WriteByte('[')
		first := true
		for _, e := range d {
			newline(b, &first, depth+1)
			write(b, e, depth+1)
		}
		fmt.Fprintf(b, "\n%*s]", 2*depth, "")
	}
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
			b.Write(quote(e.Key))
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
		b.Write(quote(d))
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
func quote(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string and a buffer: neither can fail
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
