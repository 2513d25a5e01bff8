package plan

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/netpolicy"
	"github.com/opencoded/opencoded/internal/sandbox"
)

var update = flag.Bool("update", false, "rewrite what follows inventory.toml in testdata")

// Places of the fixed host; nothing is looked up there.
const (
	opencodeBinary  = "/usr/local/bin/opencode"
	opencodedBinary = "/usr/local/bin/opencoded"
)

// fixed is the host on which every test plans. It holds one person's account,
// one that opencoded made earlier, and a few ids that are taken.
func fixed(inv *instance.Inventory, beside ...txtar.File) Facts {
	f := Facts{
		Sandbox: sandbox.Host{Opencoded: opencodedBinary, SystemdVersion: 252, ResolvDir: "/run/systemd/resolve", Shell: "/bin/bash"},
		Key:     []byte("a key that only tests use"),
		Accounts: map[string]Account{
			"agent":         {User: "agent", UID: 500, GID: 500, Home: "/home/agent", Shell: "/usr/sbin/nologin"},
			"opencode-ours": {User: "opencode-ours", UID: 997, GID: 997, Home: "/var/lib/opencode/instance-state/ours", Shell: "/usr/sbin/nologin", Ours: true},
		},
		Groups:      map[string]uint32{"agent": 500, "devs": 600, "video": 44, "kvm": 104, "opencode-ours": 997},
		Taken:       map[uint32]bool{0: true, 44: true, 104: true, 500: true, 600: true, 997: true, 999: true},
		IDs:         instance.UIDRange{First: 900, Last: 999},
		Binaries:    map[string]Binary{},
		Environment: map[string][]byte{},
		ConfigFiles: map[string][]byte{},
		Credentials: map[string][]byte{},
		Passwords:   map[string]string{},
		Firewalls:   []Firewall{{Manager: Firewalld, Active: true, Zone: "public"}},
	}
	if inv.Host.UIDRange != nil {
		f.IDs = *inv.Host.UIDRange
	}
	for _, i := range inv.Instances {
		f.Binaries[i.Opencode] = Binary{Resolved: opencodeBinary, Stamp: opencodeBinary + " 1:2 3 4"}
		f.Passwords[i.Name] = "generated-" + i.Name
		for _, e := range i.EnvironmentFiles {
			if !e.Optional {
				f.Environment[e.Path] = []byte("TOKEN=secret\n")
			}
		}
		for _, c := range i.Credentials {
			f.Credentials[c.Path] = []byte("secret of " + c.Name)
		}
		if i.ConfigFile != "" {
			f.ConfigFiles[i.ConfigFile] = []byte("{\n  // an operator's own\n  \"share\": \"manual\"\n}\n")
			beside = append(beside, txtar.File{Name: i.ConfigFile, Data: f.ConfigFiles[i.ConfigFile]})
		}
	}
	f.Bundles, _ = Configurations(inv, archive(beside)) // what is wrong shows in what follows
	return f
}

// archive is what stands beside an inventory, as a config.Reader.
type archive []txtar.File

func (a archive) Read(path string) (config.Content, error) {
	for _, f := range a {
		if f.Name == path {
			return config.Content{Data: f.Data, Executable: strings.HasSuffix(path, ".sh")}, nil
		}
	}
	return config.Content{}, fs.ErrNotExist
}

func (a archive) List(dir string) ([]string, error) {
	var out []string
	for _, f := range a {
		if rest, below := strings.CutPrefix(f.Name, dir+"/"); below {
			out = append(out, rest)
		}
	}
	slices.Sort(out)
	return out, nil
}

// inputs are the files of a scenario that stand beside its inventory.
func inputs(a *txtar.Archive) []txtar.File {
	n := 1
	for n < len(a.Files) && strings.HasPrefix(a.Files[n].Name, "beside/") {
		n++
	}
	return a.Files[1:n:n] // others append to it
}

// scenario is one archive of testdata with what is planned for it.
type scenario struct {
	name    string
	archive *txtar.Archive
	want    Desired
}

func scenarios(t *testing.T) []scenario {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	var out []scenario
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		inv := parse(t, string(a.Files[0].Data))
		facts := fixed(inv, inputs(a)...)
		if name == "new-systemd" {
			facts.Sandbox.SystemdVersion = 257
		}
		out = append(out, scenario{name, a, desire(t, inv, facts)})
	}
	return out
}

func parse(t testing.TB, text string) *instance.Inventory {
	t.Helper()
	inv, problems := instance.Parse("inventory.toml", []byte(text))
	if len(problems) > 0 {
		t.Fatalf("%v", problems)
	}
	return inv
}

func desire(t testing.TB, inv *instance.Inventory, facts Facts) Desired {
	t.Helper()
	d, problems := Desire(inv, facts)
	if len(problems) > 0 {
		t.Fatalf("%v", problems)
	}
	return d
}

// TestGolden holds everything that an inventory leads to on an empty host to its
// very text.
func TestGolden(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			got := &txtar.Archive{Comment: s.archive.Comment, Files: slices.Concat(s.archive.Files[:1], inputs(s.archive), rendered(s.want))}
			path := filepath.Join("testdata", s.name+".txtar")
			if *update {
				if err := os.WriteFile(path, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			old, new := string(txtar.Format(s.archive)), string(txtar.Format(got))
			if old != new {
				t.Errorf("%s is not what is planned now (-update rewrites it):\n%s", path, unified(old, new))
			}
		})
	}
}

// rendered are the files that opencoded would write, the tables that it would
// load and the steps that it would take, each under its name on the host. The
// managed set-up script is left out: it is the same everywhere.
func rendered(d Desired) []txtar.File {
	var out []txtar.File
	add := func(name, text string) {
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n" // txtar knows only whole lines
		}
		out = append(out, txtar.File{Name: name, Data: []byte(text)})
	}
	files := slices.Clone(d.Files)
	for _, t := range d.Targets {
		files = append(files, slices.Concat(t.Files, t.Units)...)
	}
	for _, f := range files {
		if filepath.Base(f.Path) != sandbox.Managed && f.Path != KeyFile {
			add(f.Path, f.Content)
		}
	}
	for _, table := range []*netpolicy.Table{d.Guard, d.Shared} {
		if table != nil {
			add("table inet "+table.Name, table.String())
		}
	}
	for _, t := range d.Targets {
		if t.Egress != nil {
			add("table inet "+t.Egress.Name, t.Egress.String())
		}
	}
	p := Diff(d, Observed{})
	add("steps", strings.Join(lines(p), "\n"))
	return out
}

// lines are the steps of a plan, one a line; texts are left out.
func lines(p Plan) []string {
	var out []string
	for _, l := range append([]Lane{p.Host}, p.Lanes...) {
		if len(l.Steps) == 0 {
			continue
		}
		name := l.Instance
		if name == "" {
			name = "host"
		}
		title := name + ": " + string(l.Action)
		if len(l.Why) > 0 {
			title += " (" + strings.Join(l.Why, ", ") + ")"
		}
		out = append(out, title)
		for _, s := range l.Steps {
			line := fmt.Sprintf("    %s %s %s", s.Verb, s.Kind, s.Name)
			if s.Why != "" {
				line += " (" + s.Why + ")"
			}
			out = append(out, line)
		}
	}
	if p.Reload {
		out = append(out, "reload")
	}
	return out
}
