package document

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
)

// dump prints a table with the place of everything, one key a line.
func dump(b *strings.Builder, prefix []string, v *Value) {
	if t := v.Table(); t != nil {
		for e := range t.All() {
			path := append(prefix[:len(prefix):len(prefix)], e.Key)
			fmt.Fprintf(b, "%s key %d:%d\n", Join(path...), e.KeyPos.Line, e.KeyPos.Column)
			dump(b, path, e.Value)
		}
		return
	}
	if l, ok := v.List(); ok {
		for i, e := range l {
			dump(b, append(prefix[:len(prefix):len(prefix)], fmt.Sprint(i)), e)
		}
		return
	}
	fmt.Fprintf(b, "%s = %v %d:%d\n", Join(prefix...), v.Data, v.Pos.Line, v.Pos.Column)
}

func TestParseTOMLKeepsOrderAndPlaces(t *testing.T) {
	const text = `# a comment
version = 1
[instances.web]
  directory = "/srv/web" # trailing
  listen = { port = 80, address = "::1" }
  list = [
    "a", # one
    { k = true },
  ]
  z.y."x y" = 1
  permission = { "*" = "ask", "git *" = "allow", a = "deny" }
[[rows]]
n = 1
[rows.sub]
d = 2024-01-02T03:04:05Z
[[rows]]
n = 2
`
	table, problems := ParseTOML("f.toml", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var b strings.Builder
	dump(&b, nil, &Value{Data: table})
	want := `version key 2:1
version = 1 2:11
instances key 3:2
instances.web key 3:12
instances.web.directory key 4:3
instances.web.directory = /srv/web 4:15
instances.web.listen key 5:3
instances.web.listen.port key 5:14
instances.web.listen.port = 80 5:21
instances.web.listen.address key 5:25
instances.web.listen.address = ::1 5:35
instances.web.list key 6:3
instances.web.list.0 = a 7:5
instances.web.list.1.k key 8:7
instances.web.list.1.k = true 8:11
instances.web.z key 10:3
instances.web.z.y key 10:5
instances.web.z.y."x y" key 10:7
instances.web.z.y."x y" = 1 10:15
instances.web.permission key 11:3
instances.web.permission."*" key 11:18
instances.web.permission."*" = ask 11:24
instances.web.permission."git *" key 11:31
instances.web.permission."git *" = allow 11:41
instances.web.permission.a key 11:50
instances.web.permission.a = deny 11:54
rows key 12:3
rows.0.n key 13:1
rows.0.n = 1 13:5
rows.0.sub key 14:7
rows.0.sub.d key 15:1
rows.0.sub.d = 2024-01-02 03:04:05 +0000 UTC 15:5
rows.1.n key 17:1
rows.1.n = 2 17:5
`
	if got := b.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestParseTOMLSyntaxErrorHasPlace(t *testing.T) {
	for text, want := range map[string]string{
		"a = 1\nb = \n":     "f.toml:2:5",
		"a = 1\na = 2\n":    "f.toml:2:7",
		"[t]\nx = \"a\nb\"": "f.toml:2:7",
		"\x00":              "f.toml:1:1",
		"a = [1, 2":         "f.toml:1:",
		"k = 'never closed": "f.toml:1:",

		"a = { b = 1 }\na.c = 2\n":           "f.toml:2:1: not valid TOML: a is an inline table",
		"a = { b = { c = 1 } }\na.b.d = 2\n": "f.toml:2:1: not valid TOML: a is an inline table",
		"a = { b = 1 }\n[a]\nc = 2\n":        "f.toml:2:2",
	} {
		_, problems := ParseTOML("f.toml", []byte(text))
		if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), want) {
			t.Errorf("%q: got %v, want one error at %s", text, problems, want)
		}
	}
}

func TestMerge(t *testing.T) {
	parse := func(s string) *Table {
		table, problems := ParseTOML("", []byte(s))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return table
	}
	base := parse("a = 1\nlist = [1, 2]\n[t]\nx = 1\ny = 2\n[env]\nTZ = 'UTC'")
	over := parse("list = [3]\nnew = true\n[t]\nx = 5\nz = 6\n[env]")
	got := plain(&Value{Data: Merge(base, over)})
	want := map[string]any{
		"a": int64(1), "list": []any{int64(3)}, "new": true,
		"t":   map[string]any{"x": int64(5), "y": int64(2), "z": int64(6)},
		"env": map[string]any{"TZ": "UTC"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if v := base.Lookup("t", "x").Data; v != int64(1) {
		t.Errorf("Merge changed its base: t.x = %v", v)
	}
	var keys []string
	for e := range Merge(base, over).All() {
		keys = append(keys, e.Key)
	}
	if got := strings.Join(keys, " "); got != "a list t env new" {
		t.Errorf("order of keys: %s", got)
	}
}

func TestNearest(t *testing.T) {
	keys := []string{"directory", "environment_file", "listen", "log_level", "extra_args"}
	for word, want := range map[string]string{
		"directroy": "directory", "environmentFile": "environment_file", "lisen": "listen",
		"loglevel": "log_level", "zebra": "", "x": "",
	} {
		if got := Nearest(word, keys); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

// plain is the value as a decoder without positions would return it.
func plain(v *Value) any {
	switch d := v.Data.(type) {
	case *Table:
		m := map[string]any{}
		for e := range d.All() {
			m[e.Key] = plain(e.Value)
		}
		return m
	case []*Value:
		l := []any{}
		for _, e := range d {
			l = append(l, plain(e))
		}
		return l
	case time.Time:
		return d.String()
	default:
		return d
	}
}

// FuzzParseTOML: no input crashes the reader, what it accepts is exactly what
// the decoding library reads, and every key has a place inside the text.
func FuzzParseTOML(f *testing.F) {
	for _, seed := range []string{
		"", "a = 1", "[a.b]\nc.d = [1, {e = 2}]", "[[a]]\nb = 1\n[[a]]\n[a.c]\nd = ''",
		"a = {\n b = 1,\n}", "\"\" = 1", "x = '''\na\n'''", "a = inf\nb = nan\nc = 0x1F", "\ufeffa = 1",
		"a = 1979-05-27\nb = 07:32:00", "[a]\n[a.b]\n[a.b.c]\n", "a.b = 1\na.c = 2", "é = 1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		table, problems := ParseTOML("f", []byte(text))
		var want map[string]any
		_, err := toml.Decode(text, &want)
		if err != nil && len(problems) == 0 {
			t.Fatalf("accepted what is not TOML: %v", err)
		}
		for _, p := range problems {
			if strings.Contains(p.Message, "internal error") {
				t.Fatal(p)
			}
		}
		if len(problems) > 0 {
			return
		}
		lines := strings.Count(text, "\n") + 1
		var walk func(*Value)
		walk = func(v *Value) {
			if v.Pos.Line < 1 || v.Pos.Line > lines || v.Pos.Column < 1 {
				t.Fatalf("value outside of the text: %+v", v.Pos)
			}
			for e := range v.Table().All() {
				walk(e.Value)
			}
			l, _ := v.List()
			for _, e := range l {
				walk(e)
			}
		}
		for e := range table.All() {
			walk(e.Value)
		}
	})
}
