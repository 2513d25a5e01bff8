package parity

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/opencoded/opencoded/internal/document"
)

// TestMarkdown holds the heads of agents against the real program: what we take,
// with a warning or without, opencode takes with the same values; of what we
// refuse opencode loads nothing. The keys are none of an agent, which opencode
// keeps among its options as they are.
func TestMarkdown(t *testing.T) {
	p := newPrograms(t, needOpencode(t))
	a, err := txtar.ParseFile("testdata/markdown/heads.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range a.Files {
		write(t, filepath.Join(dir, ".opencode/agent", f.Name+".md"), agentOf(f))
	}
	said := p.debugConfig(t, dir)
	if said.code != 0 {
		t.Fatal(said.stderr)
	}
	for _, f := range a.Files {
		m, problems := document.ParseMarkdown(f.Name, []byte(agentOf(f)))
		loaded := said.config.Lookup("agent", f.Name, "options")
		if strings.HasPrefix(f.Name, "refused/") {
			if len(problems.Errors()) == 0 {
				t.Errorf("%s: we accept it\n%s", f.Name, f.Data)
			}
			if loaded.Table().Len() > 0 {
				t.Errorf("%s: opencode loads %s\n%s", f.Name, plain(loaded), f.Data)
			}
			continue
		}
		if len(problems.Errors()) > 0 {
			t.Errorf("%s: we refuse it: %v\n%s", f.Name, problems, f.Data)
			continue
		}
		if got, want := plain(&document.Value{Data: m.Head}), plain(loaded); got != want {
			t.Errorf("%s: we take %s, opencode %s\n%s", f.Name, got, want, f.Data)
		}
	}
}

// agentOf is a file like no other: opencode mistakes files of the same text.
func agentOf(f txtar.File) string { return "---\n" + string(f.Data) + "---\n" + f.Name + "\n" }
