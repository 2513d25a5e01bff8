package parity

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/document"
)

// testCase is one file of an archive. Its directory says what is claimed:
//
//	accept/    both take it, and opencode loads the same values
//	reject/    neither takes it; both name the key of the line "// key: a.b.c"
//	           ("-" where opencode names none)
//	stricter/  opencode takes it and does not do what it says; we name the key of
//	           the line "// key: …"; what a line "// gone: …" names is not loaded
//	warned/    both take it, and we say the text of the line "// warns: …"; a line
//	           "// order: a.b = x y" says which keys a table has in opencode
//
// A name that ends in .tui.jsonc or .tui.toml is a tui.json, which `debug config`
// does not show: TestTUI reads in opencode's log what became of it.
type testCase struct {
	archive, kind, name string
	text                string
	tui                 bool
	key, gone           []string
	warns               string
	ordered             []string // the path of a table, and its keys
	order               string

	table *document.Table // what opencode is given; nil where that is no JSON
}

func (c *testCase) String() string { return c.archive + ": " + c.kind + "/" + c.name }

func readCases(t *testing.T) []*testCase {
	t.Helper()
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	var out []*testCase
	for _, file := range archives {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			kind, name := path.Split(f.Name)
			c := &testCase{archive: filepath.Base(file), kind: strings.TrimSuffix(kind, "/"), name: name, text: string(f.Data), tui: strings.Contains(name, ".tui.")}
			if !slices.Contains([]string{"accept", "reject", "stricter", "warned"}, c.kind) {
				t.Fatalf("%s: there is no kind %q", c, c.kind)
			}
			c.directives(t)
			out = append(out, c)
		}
	}
	return out
}

// directives are the comments at the top of a case.
func (c *testCase) directives(t *testing.T) {
	key := func(text string) []string {
		if text == "-" {
			return []string{""}
		}
		if parts, err := document.SplitKey(text); err == nil {
			return parts
		}
		return strings.Split(text, ".") // of names that would need quotes
	}
	for line := range strings.Lines(strings.TrimPrefix(c.text, "\ufeff")) {
		line = strings.TrimSpace(line)
		text, found := strings.CutPrefix(line, "//")
		if !found {
			if text, found = strings.CutPrefix(line, "#"); !found {
				break
			}
		}
		name, value, _ := strings.Cut(strings.TrimSpace(text), ": ")
		switch name {
		case "key":
			c.key = key(value)
		case "gone":
			c.gone = key(value)
		case "warns":
			c.warns = value
		case "order":
			path, keys, _ := strings.Cut(value, " = ")
			c.ordered, c.order = key(path), keys
		}
	}
	if strings.TrimSpace(c.text) == "" && c.kind == "reject" {
		c.key = []string{""} // blanks alone have no room for a comment
	}
	switch {
	case (c.kind == "reject" || c.kind == "stricter") && c.key == nil:
		t.Fatalf("%s: no line // key: …", c)
	case c.kind == "warned" && c.warns == "":
		t.Fatalf("%s: no line // warns: …", c)
	}
}

// parsed is the case as it stands, where it is a document at all.
func (c *testCase) parsed() *document.Table {
	table, problems := config.ParseFile(c.name, []byte(c.text))
	if len(problems) > 0 {
		return nil
	}
	return table
}

// original reports whether opencode can be given the very text of the case.
func (c *testCase) original() bool { return path.Ext(c.name) != ".toml" }
