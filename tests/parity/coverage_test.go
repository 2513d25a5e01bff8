package parity

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/schema"
)

// TestEveryKeyIsAccepted: each key of the schemas appears in a case that both
// accept, so that a new version's new key fails here until it is covered.
func TestEveryKeyIsAccepted(t *testing.T) {
	written := map[bool][][]string{}
	for _, c := range readCases(t) {
		if c.kind == "accept" {
			collect(&document.Value{Data: built(t, c)}, nil, func(path []string) { written[c.tui] = append(written[c.tui], path) })
		}
	}
	for tui, s := range map[bool]*schema.Schema{false: schema.Builtin().Config, true: schema.Builtin().TUI} {
		options, err := s.Options()
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range options {
			if !slices.ContainsFunc(written[tui], o.Matches) {
				t.Errorf("no accepted case has %s", o.Key)
			}
		}
	}
}

// built is what our program makes of a case, without the keys that it moves.
func built(t *testing.T, c *testCase) *document.Table {
	t.Helper()
	name := c.name
	if c.tui {
		name = "tui" + filepath.Ext(c.name)
	}
	bundle, problems := config.Load(textOf{name: c.text}, "", config.Source{Path: name})
	if len(problems.Errors()) > 0 {
		t.Fatalf("%s: %v", c, problems)
	}
	main, terminal := bundle.Merged()
	if c.tui {
		return terminal
	}
	return main
}

// collect visits the paths of all values; elements of lists have that of the list.
func collect(v *document.Value, path []string, visit func([]string)) {
	visit(path)
	for e := range v.Table().All() {
		collect(e.Value, append(slices.Clone(path), e.Key), visit)
	}
	list, _ := v.List()
	for _, e := range list {
		collect(e, path, visit)
	}
}

// textOf is a config.Reader of one file.
type textOf map[string]string

func (f textOf) Read(path string) (config.Content, error) {
	text, ok := f[path]
	if !ok {
		return config.Content{}, os.ErrNotExist
	}
	return config.Content{Data: []byte(text)}, nil
}

func (textOf) List(string) ([]string, error) { return nil, os.ErrNotExist }

// TestImport: the schema that a running opencode tells of itself is the one that
// is part of opencoded.
func TestImport(t *testing.T) {
	p := newPrograms(t, needOpencode(t))
	file := filepath.Join(t.TempDir(), "schema.json")
	out, err := exec.Command(p.opencoded, "config", "schema", "import", "--opencode", p.opencode, "-o", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if want := "opencode " + schema.BuiltinVersion + ": " + file + "\n"; string(out) != want {
		t.Errorf("got %s, want %s", out, want)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := normal(t, got), normal(t, schema.Builtin().Config.Text()); a != b {
		t.Errorf("the schema of %s differs from the one that is built in:\n%s", p.opencode, firstDifference(a, b))
	}
	text, err := exec.Command(p.opencoded, "config", "schema", "--opencode", p.opencode).Output()
	if err != nil || !strings.Contains(string(text), `"description"`) {
		t.Errorf("config schema --opencode: %v", err)
	}
}

// normal is a JSON document with its keys in order.
func normal(t *testing.T, text []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return x[i] + "\nwant\n" + y[i]
		}
	}
	return "one is longer"
}
