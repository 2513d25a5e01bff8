package instance

import (
	"flag"
	"os"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/opencoded/opencoded/internal/document"
)

var update = flag.Bool("update", false, "rewrite the expected findings in testdata")

// TestDiagnostics holds every check to its words: each NAME.toml in the archive
// is followed by NAME.want with the findings, one a line.
func TestDiagnostics(t *testing.T) {
	const name = "testdata/diagnostics.txtar"
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var out []txtar.File
	for i, f := range archive.Files {
		base, ok := strings.CutSuffix(f.Name, ".toml")
		if !ok {
			continue
		}
		want := ""
		if i+1 < len(archive.Files) && archive.Files[i+1].Name == base+".want" {
			want = string(archive.Files[i+1].Data)
		}
		inv, problems := Parse("i.toml", f.Data)
		var b strings.Builder
		for _, p := range problems {
			b.WriteString(p.String() + "\n")
		}
		if got := b.String(); got != want && !*update {
			t.Errorf("%s: got\n%swant\n%s", base, got, want)
		}
		if (inv == nil) != (len(problems.Errors()) > 0) {
			t.Errorf("%s: an inventory comes back exactly when there is no error", base)
		}
		out = append(out, f, txtar.File{Name: base + ".want", Data: []byte(b.String())})
	}
	if *update {
		archive.Files = out
		if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func parse(t *testing.T, text string) *Inventory {
	t.Helper()
	inv, problems := Parse("i.toml", []byte(text))
	if len(problems.Errors()) > 0 {
		t.Fatal(problems)
	}
	return inv
}

func TestDefaultsMergeKeyByKey(t *testing.T) {
	inv := parse(t, `
version = 1
[host]
state_root = "/data/state"
[defaults]
log_level = "info"
environment = { TZ = "UTC", A = "1" }
provider = "anthropic"
network_isolation = { enable = true, on_block = "reject" }
sandbox.read_only_paths = ["/data/ref"]
[defaults.config]
share = "disabled"
permission = { "*" = "ask", bash = "deny" }
[instances.b]
directory = "/data/b"
listen.port = 1
log_level = "DEBUG"
model = "claude"
environment = { A = "2", B = "3" }
network_isolation.on_block = "drop"
sandbox.read_only_paths = []
[instances.b.config]
permission = { bash = "allow", edit = "ask" }
[instances.a]
directory = "/data/a/"
state_dir = "/data/own"
`)
	if len(inv.Instances) != 2 || inv.Instances[0].Name != "a" {
		t.Fatalf("instances are not sorted by name: %v", inv.Instances)
	}
	a, b := inv.Instances[0], inv.Instances[1]
	equal(t, "a.Directory", a.Directory, "/data/a")
	equal(t, "a.StateDir", a.StateDir, "/data/own")
	equal(t, "b.StateDir", b.StateDir, "/data/state/b")
	equal(t, "a.LogLevel", a.LogLevel, "INFO")
	equal(t, "b.LogLevel", b.LogLevel, "DEBUG")
	equal(t, "a.Model", a.Model, "")
	equal(t, "b.Model", b.Model, "anthropic/claude")
	equal(t, "b.Network.Enable", b.Network.Enable, true)
	equal(t, "b.Network.OnBlock", b.Network.OnBlock, "drop")
	equal(t, "a.Network.OnBlock", a.Network.OnBlock, "reject")
	equal(t, "len(b.ReadOnlyPaths)", len(b.Sandbox.ReadOnlyPaths), 0)
	equal(t, "len(a.ReadOnlyPaths)", len(a.Sandbox.ReadOnlyPaths), 1)
	var env []string
	for _, v := range b.Environment {
		env = append(env, v.Name+"="+v.Value)
	}
	equal(t, "b.Environment", strings.Join(env, " "), "TZ=UTC A=2 B=3")
	var keys []string
	for _, layer := range b.Layers {
		for e := range layer.Table.Get("permission").Table().All() {
			keys = append(keys, e.Key+"="+e.Value.Data.(string))
		}
	}
	equal(t, "layers of b.permission", strings.Join(keys, " "), "*=ask bash=deny bash=allow edit=ask")
	equal(t, "a.User", a.User, "opencode-a")
	equal(t, "a.Group", a.Group, "opencode-a")
	equal(t, "position of an own value", b.At("log_level").String(), "i.toml:17:13")
	equal(t, "position of an inherited value", a.At("log_level").String(), "i.toml:6:13")
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// TestKeysAreDocumented: the table of keys is also the reference.
func TestKeysAreDocumented(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range instanceKeys {
		if k.doc == "" || seen[k.name] {
			t.Errorf("%s has no documentation, or is listed twice", k.name)
		}
		seen[k.name] = true
	}
}

// FuzzParse: no inventory crashes the reader, and what it accepts keeps the
// promises that later stages rely on.
func FuzzParse(f *testing.F) {
	archive, err := txtar.ParseFile("testdata/diagnostics.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		if strings.HasSuffix(file.Name, ".toml") {
			f.Add(file.Data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		inv, problems := Parse("i.toml", data)
		for _, p := range problems {
			if p.Severity == document.Error && p.Pos.File == "" {
				t.Fatalf("an error without a place: %v", p)
			}
		}
		if inv == nil {
			return
		}
		for _, i := range inv.Instances {
			if !nameRule.MatchString(i.Name) || !strings.HasPrefix(i.Directory, "/") || !strings.HasPrefix(i.StateDir, "/") ||
				i.User == "root" || i.Listen.Port == 0 || strings.ContainsAny(i.Directory, "\n\x00") {
				t.Fatalf("accepted %+v", i)
			}
		}
	})
}
