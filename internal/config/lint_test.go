package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/schema"
)

var update = flag.Bool("update", false, "rewrite the findings in testdata")

// findingsOf composes one file and prints what was found, a line each, without
// the name of the file.
func findingsOf(t *testing.T, name, text string, change func(*Input)) (string, []Fix) {
	t.Helper()
	bundle, problems := Load(files{name: text}, "", Source{Path: name})
	in := Input{Bundle: bundle, Schemas: schema.Builtin()}
	if change != nil {
		change(&in)
	}
	out, more := Compose(in)
	problems.AddAll(more)
	problems.Sort()
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(strings.TrimPrefix(p.String(), name+":") + "\n")
	}
	return b.String(), out.Fixes
}

// files is a Reader of texts.
type files map[string]string

func (f files) Read(path string) (Content, error) {
	if text, ok := f[path]; ok {
		return Content{Data: []byte(text)}, nil
	}
	return Content{}, &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
}

func (f files) List(dir string) ([]string, error) {
	var out []string
	for path := range f {
		if rest, ok := strings.CutPrefix(path, dir+"/"); ok {
			out = append(out, rest)
		}
	}
	if out == nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: os.ErrNotExist}
	}
	return out, nil
}

// TestLint: each archive holds a configuration (in.json), what is found in it
// (findings) and, where something can be repaired, the result (fixed.json),
// whose findings (left) are those that need a person.
func TestLint(t *testing.T) {
	archives, err := filepath.Glob("testdata/lint/*.txtar")
	if err != nil || len(archives) < 10 {
		t.Fatalf("%d archives: %v", len(archives), err)
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			part := map[string]string{}
			for _, f := range a.Files {
				part[f.Name] = string(f.Data)
			}
			got := map[string]string{"in.json": part["in.json"]}
			var fixes []Fix
			got["findings"], fixes = findingsOf(t, "in.json", part["in.json"], nil)
			if len(fixes) > 0 {
				data := []byte(part["in.json"])
				for _, f := range fixes {
					if data, err = document.EditJSON(data, []document.Edit{f.Edit}); err != nil {
						t.Fatalf("%v: %v", f.Edit, err)
					}
				}
				got["fixed.json"] = string(data)
				got["left"], _ = findingsOf(t, "in.json", string(data), nil)
			}
			if *update {
				out := &txtar.Archive{Comment: a.Comment}
				for _, name := range []string{"in.json", "findings", "fixed.json", "left"} {
					if text, ok := got[name]; ok {
						out.Files = append(out.Files, txtar.File{Name: name, Data: []byte(text)})
					}
				}
				if err := os.WriteFile(path, txtar.Format(out), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, name := range []string{"findings", "fixed.json", "left"} {
				if got[name] != part[name] {
					t.Errorf("%s: got\n%swant\n%s(-update rewrites it)", name, got[name], part[name])
				}
			}
		})
	}
}

// TestStrict: warnings are errors, notes stay notes.
func TestStrict(t *testing.T) {
	text := `{"autoshare": true, "model": "x"}`
	lax, _ := findingsOf(t, "f.json", text, nil)
	strict, _ := findingsOf(t, "f.json", text, func(in *Input) { in.Strict = true })
	if want := strings.Replace(lax, "1:30: warning: ", "1:30: ", 1); strict != want || strict == lax {
		t.Errorf("got\n%swant\n%s", strict, want)
	}
}

func TestAllowUnknown(t *testing.T) {
	got, _ := findingsOf(t, "f.json", `{"brandnew": 1}`, func(in *Input) { in.AllowUnknown = true })
	if !strings.HasPrefix(got, "1:2: warning: unknown key \"brandnew\" in opencode.json is passed on") {
		t.Error(got)
	}
}

func TestInvisibleFile(t *testing.T) {
	got, _ := findingsOf(t, "f.json", `{"username": "{file:/secret/x}", "shell": "{file:/srv/y}"}`, func(in *Input) {
		in.Visible = func(path string) bool { return strings.HasPrefix(path, "/srv/") }
	})
	want := "1:14: warning: username: {file:/secret/x} is not visible in the sandbox of the instance (make it visible with sandbox.read_only_paths)\n"
	if got != want {
		t.Errorf("got %s", got)
	}
}
