package config

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/document"
)

func jsonTable(t testing.TB, name, text string) *document.Table {
	t.Helper()
	out, problems := document.ParseJSON(name, []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return out
}

func text(t *document.Table) string {
	var b bytes.Buffer
	compact(&b, &document.Value{Data: t})
	return b.String()
}

func TestMerge(t *testing.T) {
	for _, c := range []struct {
		name, want string
		layers     []string
	}{
		{"nothing", `{}`, nil},
		{"one", `{"b":1,"a":{"c":[]}}`, []string{`{"b":1,"a":{"c":[]}}`}},
		{"objects merge in depth, scalars replace", `{"a":{"x":1,"y":3,"z":4},"b":true}`,
			[]string{`{"a":{"x":1,"y":2},"b":false}`, `{"a":{"y":3,"z":4},"b":true}`}},
		{"an overridden key keeps its place, a new one comes last", `{"permission":{"*":"deny","bash":"allow","edit":"ask"}}`,
			[]string{`{"permission":{"*":"ask","bash":"allow"}}`, `{"permission":{"edit":"ask","*":"deny"}}`}},
		{"sequences replace", `{"command":["b"]}`, []string{`{"command":["a"]}`, `{"command":["b"]}`}},
		{"sets unite without repeats", `{"instructions":["a","b","c"],"skills":{"paths":["x","y"]}}`,
			[]string{`{"instructions":["a","b"],"skills":{"paths":["x"]}}`, `{"instructions":["b","c","c"],"skills":{"paths":["y","x"]}}`}},
		{"$append", `{"command":["a","a","b"]}`, []string{`{"command":["a"]}`, `{"command":{"$append":["a","b"]}}`}},
		{"$append to nothing", `{"command":["a"]}`, []string{`{"command":{"$append":["a"]}}`}},
		{"$replace of a set", `{"plugin":["b"]}`, []string{`{"plugin":["a"]}`, `{"plugin":{"$replace":["b"]}}`}},
		{"$replace of an object", `{"permission":{"edit":"ask"}}`,
			[]string{`{"permission":{"*":"deny","bash":"allow"}}`, `{"permission":{"$replace":{"edit":"ask"}}}`}},
		{"null removes", `{"b":2}`, []string{`{"a":1,"b":2}`, `{"a":null}`}},
		{"null, then a value", `{"a":3,"b":2}`, []string{`{"a":{"x":1},"b":2}`, `{"a":null}`, `{"a":3}`}},
		{"null, then an object, is not the old object", `{"a":{"y":2}}`, []string{`{"a":{"x":1}}`, `{"a":null}`, `{"a":{"y":2}}`}},
		{"null, then a set, is not the old set", `{"plugin":["b"]}`, []string{`{"plugin":["a"]}`, `{"plugin":null}`, `{"plugin":["b"]}`}},
		{"what nulls left empty goes", `{"c":{}}`, []string{`{"a":{"b":{"x":1}},"c":{}}`, `{"a":{"b":{"x":null}}}`}},
		{"null of nothing", `{}`, []string{`{"a":null,"b":{"c":null}}`}},
		{"mixed types replace", `{"a":{"x":1},"b":[1],"c":"s"}`,
			[]string{`{"a":"s","b":{"y":1},"c":[1]}`, `{"a":{"x":1},"b":[1],"c":"s"}`}},
	} {
		var layers []*document.Table
		for _, l := range c.layers {
			layers = append(layers, jsonTable(t, "l", l))
		}
		if got := text(Merge(layers...)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// Every value knows the layer and the line that set it.
func TestMergeKeepsPlaces(t *testing.T) {
	merged := Merge(
		jsonTable(t, "base.json", "{\n\"a\": {\"x\": 1,\n\"y\": 2},\n\"instructions\": [\"i\"]}"),
		jsonTable(t, "over.json", "{\"a\": {\"y\": 3},\n\"instructions\": [\"j\"]}"),
	)
	list, _ := merged.Get("instructions").List()
	for what, c := range map[string]struct {
		v    *document.Value
		want string
	}{
		"a.x":            {merged.Lookup("a", "x"), "base.json:2:12"},
		"a.y":            {merged.Lookup("a", "y"), "over.json:1:13"},
		"instructions.0": {list[0], "base.json:4:18"},
		"instructions.1": {list[1], "over.json:2:18"},
	} {
		if got := c.v.Pos.String(); got != c.want {
			t.Errorf("%s was set at %s, want %s", what, got, c.want)
		}
	}
}

// FuzzMerge holds the laws of merging over arbitrary layers: neighbours may be
// merged first in any grouping, the empty layer is an identity on either side,
// inputs stay as they are, and the same layers give the same bytes.
func FuzzMerge(f *testing.F) {
	for _, seed := range []string{
		`{"a":1}|{"a":null}|{"a":{"b":1}}`,
		`{"plugin":["a"]}|{"plugin":null}|{"plugin":["b"]}`,
		`{"plugin":["a","b"]}|{"plugin":{"$append":["a"]}}|{"plugin":["b","c"]}`,
		`{"p":{"x":1,"y":2}}|{"p":{"$replace":{"y":3}}}|{"p":{"x":4,"z":null}}`,
		`{"a":[1]}|{"a":{"$append":[2]}}|{"a":{"k":1}}`,
		`{"skills":{"paths":["x"]}}|{"skills":null}|{"skills":{"paths":{"$append":["y"]}}}`,
		`{"a":{"b":{"c":1}}}|{"a":{"b":null}}|{"a":{"b":{"d":null}}}`,
	} {
		f.Add(seed)
	}
	empty := &document.Table{}
	f.Fuzz(func(t *testing.T, seed string) {
		var layers []*document.Table
		for part := range strings.SplitSeq(seed, "|") {
			table, problems := document.ParseJSON("l", []byte(part))
			if len(problems) > 0 || len(layers) > 5 {
				return
			}
			layers = append(layers, table)
		}
		if len(layers) < 3 {
			return
		}
		before := text(layers[0]) + text(layers[1]) + text(layers[2])
		want := text(Merge(layers...))
		if text(layers[0])+text(layers[1])+text(layers[2]) != before {
			t.Fatal("Merge changed a layer")
		}
		if got := text(Merge(layers...)); got != want {
			t.Fatalf("the second time gives %s, the first %s", got, want)
		}
		if got := text(Merge(append([]*document.Table{empty}, append(layers, empty)...)...)); got != want {
			t.Fatalf("with empty layers %s, without %s", got, want)
		}
		if got := grouped(layers); got != want {
			t.Fatalf("merged from the right %s, from the left %s", got, want)
		}
		if !json.Valid([]byte(want)) || strings.Contains(want, "null") && !strings.Contains(seed, "[") && !strings.Contains(seed, `"`) {
			t.Fatalf("not a clean document: %s", want)
		}
	})
}

// grouped merges from the right: the last two first.
func grouped(layers []*document.Table) string {
	whole := readObject(layers[len(layers)-1], nil)
	for i := len(layers) - 2; i >= 0; i-- {
		whole = compose(readObject(layers[i], nil), whole)
	}
	v, _ := compose(patch{kind: object}, whole).resolve()
	return text(v.Table())
}
