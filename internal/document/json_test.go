package document

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestParseJSON(t *testing.T) {
	const text = "\ufeff// a comment\r\n{\r\n  \"b\": [1, 2.5, -0, null, true,], /* here */\r\n  \"a\": { \"x y\": \"\\u00e9\\n\" },\r\n}\r\n"
	table, problems := ParseJSON("f.jsonc", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var b strings.Builder
	dump(&b, nil, &Value{Data: table})
	want := `b key 3:3
b.0 = 1 3:9
b.1 = 2.5 3:12
b.2 = 0 3:17
b.3 = {} 3:21
b.4 = true 3:27
a key 4:3
a."x y" key 4:10
a."x y" = é
 4:17
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	if k := table.Lookup("b").Kind(); k != "array" {
		t.Errorf("kind %s", k)
	}
	for _, empty := range []string{"", "\ufeff", "{}", "{ /* */ }", "{} // a comment at the end"} {
		if table, problems := ParseJSON("f", []byte(empty)); len(problems) > 0 || table.Len() != 0 {
			t.Errorf("%q: %v %v", empty, table, problems)
		}
	}
}

func TestParseJSONRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"{\n \"a\": 1\n \"b\": 2}":  "f:3:2: not valid JSON: ",
		"[1]":                       "f:1:1: the document is array, not an object",
		"{\"a\":1,\n\"a\":2}":       `f:2:1: key "a" is there already, at line 1`,
		"{\"a\": \"\xff\"}":         "f:1:8: not valid UTF-8",
		"{\"a\": 1e999}":            "f:1:7: 1e999 is too large",
		"{\"a\": tru}":              "f:1:7: not valid JSON",
		"{'a': 1}":                  "f:1:2: not valid JSON",
		strings.Repeat("[", 100000): "f:1:501: is nested more than 500 deep",
		"{\"a\":":                   "f:1:6: not valid JSON",
		"\n\n":                      "f:1:1: not valid JSON: nothing but blanks",
		"\ufeff \r\n\t":             "f:1:1: not valid JSON: nothing but blanks",
		"// only a comment\n":       "f:",
	} {
		table, problems := ParseJSON("f", []byte(text))
		if table != nil || len(problems) != 1 || !strings.HasPrefix(problems[0].String(), want) {
			t.Errorf("%.40q: got %v, want %s", text, problems, want)
		}
	}
}

// FuzzParseJSON: nothing crashes the reader, and what is plain JSON is read as
// the standard library reads it.
func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"a":[1,{"b":null}]}`, "// x\n{\"a\":1,}", `{"a":1,"a":2}`, "{\"\\ud800\":\"\\u0000\"}", "[[", `{"n":1e400}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		table, problems := ParseJSON("f", []byte(text))
		if (table == nil) != (len(problems) > 0) {
			t.Fatalf("table %v with %v", table, problems)
		}
		var want map[string]any
		if table == nil || json.Unmarshal([]byte(text), &want) != nil {
			return
		}
		if got := jsonPlain(&Value{Data: table}); !reflect.DeepEqual(got, any(want)) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// jsonPlain is a value as encoding/json decodes it.
func jsonPlain(v *Value) any {
	switch d := v.Data.(type) {
	case Null:
		return nil
	case int64:
		return float64(d)
	case *Table:
		m := map[string]any{}
		for e := range d.All() {
			m[e.Key] = jsonPlain(e.Value)
		}
		return m
	case []*Value:
		l := []any{}
		for _, e := range d {
			l = append(l, jsonPlain(e))
		}
		return l
	default:
		return d
	}
}
