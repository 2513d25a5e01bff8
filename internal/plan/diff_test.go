package plan

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/netpolicy"
)

// converged is the host that holds exactly what is desired, everything running.
func converged(d Desired) Observed {
	o := Observed{
		Paths: map[string]Path{}, Units: map[string]Unit{}, Tables: map[string]netpolicy.Table{}, Stale: map[string][]string{},
		Openings: map[string][]Opening{},
		Quotas:   map[string]Quota{},
	}
	dirs, files := d.Dirs, d.Files
	for _, t := range d.Targets {
		dirs, files = slices.Concat(dirs, t.Dirs), slices.Concat(files, t.Files, t.Units)
		o.Paths[filepath.Join(t.Link.Below, t.Link.Name)] = Path{Exists: true, Type: fs.ModeSymlink, Mode: 0o777, Content: t.Link.Target}
		o.Openings[t.Instance.Name] = t.Openings
		if t.Quota != nil {
			o.Quotas[t.Instance.Name] = *t.Quota
		}
		if t.Egress != nil {
			o.Tables[t.Egress.Name] = *t.Egress
		}
		o.Units[t.Instance.ServiceName()] = Unit{
			Active: "active", Sub: "running", Enabled: true, MainPID: 100, Generation: t.Generation.String(),
		}
	}
	for _, dir := range dirs {
		o.Paths[dir.Path] = Path{Exists: true, Type: fs.ModeDir, Mode: dir.Mode, UID: dir.UID, GID: dir.GID}
	}
	for _, f := range files {
		o.Paths[f.Path] = Path{Exists: true, Mode: f.Mode, UID: f.UID, GID: f.GID, Content: f.Content}
	}
	for _, table := range []*netpolicy.Table{d.Guard, d.Shared} {
		if table != nil {
			o.Tables[table.Name] = *table
		}
	}
	return o
}

func TestConvergedIsEmpty(t *testing.T) {
	for _, s := range scenarios(t) {
		for i := range s.want.Targets {
			s.want.Targets[i].NewAccount = false
		}
		p := Diff(s.want, converged(s.want))
		if !p.Empty() {
			t.Errorf("%s: still to do:\n%s", s.name, strings.Join(lines(p), "\n"))
		}
		if len(p.Lanes) != len(s.want.Targets) {
			t.Errorf("%s: %d lanes for %d instances", s.name, len(p.Lanes), len(s.want.Targets))
		}
	}
}

// two instances, one of them isolated: drift of one never shows at the other.
const two = `version = 1
[instances.a]
directory = "/srv/a"
environment_file = "/run/secrets/a.env"
network_isolation = { enable = true, outbound_allow_cidrs = ["10.0.0.0/8"] }
[instances.b]
directory = "/srv/b"
listen.port = 8081
`

const (
	dataA    = "/var/lib/opencoded/instances/a"
	stateA   = "/var/lib/opencode/instance-state/a"
	serviceA = "opencode-a.service"
	unitA    = "/etc/systemd/system/" + serviceA
	setupA   = "/etc/systemd/system/opencode-a-setup.service"
)

func TestDrift(t *testing.T) {
	path := func(name string, change func(*Path)) func(*Observed) {
		return func(o *Observed) {
			p, ok := o.Paths[name]
			if !ok {
				t.Fatalf("nothing desired at %s", name)
			}
			change(&p)
			o.Paths[name] = p
		}
	}
	gone := func(name string) func(*Observed) { return path(name, func(p *Path) { *p = Path{} }) }
	unit := func(change func(*Unit)) func(*Observed) {
		return func(o *Observed) {
			u := o.Units[serviceA]
			change(&u)
			o.Units[serviceA] = u
		}
	}
	table := func(name string, change func(*netpolicy.Table)) func(*Observed) {
		return func(o *Observed) {
			table := o.Tables[name]
			table.Sets = slices.Clone(table.Sets)
			change(&table)
			o.Tables[name] = table
		}
	}
	for _, c := range []struct {
		name   string
		change func(*Observed)
		want   string
	}{
		{"shared directory, mode", path("/var/lib/opencoded", func(p *Path) { p.Mode = 0o755 }), `host: update
    change directory /var/lib/opencoded (0711 0:0, was 0755 0:0)`},
		{"shared directory that others own", path("/etc/opencode", func(p *Path) { p.Mode, p.UID = 0o700, 7 }), ``},
		{"shared directory missing", gone("/etc/sysusers.d"), `host: update
    create directory /etc/sysusers.d (0755 0:0)`},
		{"compiled policies", path(PoliciesFile, func(p *Path) { p.Content = "[]" }), `host: update
    change file /var/lib/opencoded/egress.json (compiled form of the egress rules)`},
		{"key", path(KeyFile, func(p *Path) { p.Mode = 0o644 }), `host: update
    change file /var/lib/opencoded/generation.key (0600 0:0, was 0644 0:0)`},
		{"guard missing", func(o *Observed) { delete(o.Tables, netpolicy.GuardTable) }, `host: update
    create rules opencoded-guard`},
		{"guard differs", table(netpolicy.GuardTable, func(t *netpolicy.Table) { t.Sets = t.Sets[:1] }), `host: update
    change rules opencoded-guard`},

		{"tables of the other layout", func(o *Observed) { o.Tables[netpolicy.SharedTable] = netpolicy.Table{Name: netpolicy.SharedTable} }, `host: update
    remove rules opencoded-egress`},
		{"lockdown that was left", func(o *Observed) { o.Tables[netpolicy.LockdownTable] = netpolicy.Table{Name: netpolicy.LockdownTable} }, `host: update
    remove rules opencoded-lockdown`},
		{"open instance with a table", func(o *Observed) { o.Tables["opencode-b"] = netpolicy.Table{Name: "opencode-b"} }, `b: update
    remove rules opencode-b`},

		{"directory, mode", path(dataA+"/config", func(p *Path) { p.Mode = 0o755 }), `a: update
    change directory /var/lib/opencoded/instances/a/config (0750 0:998, was 0755 0:998)`},
		{"directory, owner", path(stateA, func(p *Path) { p.UID = 0 }), `a: update
    change directory /var/lib/opencode/instance-state/a (0700 998:998, was 0700 0:998)`},
		{"directory, group", path(stateA, func(p *Path) { p.GID = 0 }), `a: update
    change directory /var/lib/opencode/instance-state/a (0700 998:998, was 0700 998:0)`},
		{"directory missing", gone(dataA + "/root"), `a: update
    create directory /var/lib/opencoded/instances/a/root (0755 0:0)`},
		{"project of somebody else", path("/srv/a", func(p *Path) { p.Mode, p.UID, p.GID = 0o755, 1000, 1000 }), ``},
		{"project missing", gone("/srv/a"), `a: update
    create directory /srv/a (0770 998:998)`},

		{"file, mode", path(dataA+"/config/opencode.json", func(p *Path) { p.Mode = 0o644 }), `a: update
    change file /var/lib/opencoded/instances/a/config/opencode.json (0640 0:998, was 0644 0:998)`},
		{"file, owner", path(dataA+"/config/opencode.json", func(p *Path) { p.UID = 998 }), `a: update
    change file /var/lib/opencoded/instances/a/config/opencode.json (0640 0:998, was 0640 998:998)`},
		{"file, content", path(dataA+"/config/opencode.json", func(p *Path) { p.Content = "{}\n" }), `a: update
    change file /var/lib/opencoded/instances/a/config/opencode.json`},
		{"file that is a link", path(dataA+"/config/opencode.json", func(p *Path) { p.Type, p.Content = fs.ModeSymlink, "/etc/passwd" }), `a: update
    change file /var/lib/opencoded/instances/a/config/opencode.json`},
		{"file missing", gone(dataA + "/config/.gitignore"), `a: update
    create file /var/lib/opencoded/instances/a/config/.gitignore`},
		{"secret, content", path(dataA+"/password.env", func(p *Path) { p.Content = "OPENCODE_SERVER_PASSWORD=other\n" }), `a: update
    change file /var/lib/opencoded/instances/a/password.env (secret, not shown)`},
		{"secret, mode", path(dataA+"/password.env", func(p *Path) { p.Mode = 0o644 }), `a: update
    change file /var/lib/opencoded/instances/a/password.env (0600 0:0, was 0644 0:0)`},
		{"fragment missing", gone("/etc/sysusers.d/opencode-a.conf"), `a: update
    create file /etc/sysusers.d/opencode-a.conf`},

		{"link missing", gone(stateA + "/.config/opencode/opencode.json"), `a: update
    create link /var/lib/opencode/instance-state/a/.config/opencode/opencode.json (to /var/lib/opencoded/instances/a/config/opencode.json)`},
		{"link that leads elsewhere", path(stateA+"/.config/opencode/opencode.json", func(p *Path) { p.Content = "/x" }), `a: update
    change link /var/lib/opencode/instance-state/a/.config/opencode/opencode.json (to /var/lib/opencoded/instances/a/config/opencode.json)`},
		{"the instance's own file in its place", path(stateA+"/.config/opencode/opencode.json", func(p *Path) { p.Type, p.Content = 0, "{}" }), ``},

		{"table missing", func(o *Observed) { delete(o.Tables, "opencode-a") }, `a: update
    create rules opencode-a`},
		{"table differs", table("opencode-a", func(t *netpolicy.Table) { t.Sets = t.Sets[:1] }), `a: update
    change rules opencode-a`},
		{"table that is not wanted", func(o *Observed) { o.Tables["opencode-b"] = netpolicy.Table{Name: "opencode-b"} }, `b: update
    remove rules opencode-b`},

		{"unit, content", path(unitA, func(p *Path) { p.Content += "Nice=5\n" }), `a: update
    change unit /etc/systemd/system/opencode-a.service
reload`},
		{"set-up unit missing", gone(setupA), `a: update
    create unit /etc/systemd/system/opencode-a-setup.service
reload`},
		{"unit missing, still running", gone(unitA), `a: update
    create unit /etc/systemd/system/opencode-a.service
reload`},
		{"unit newer than what systemd has read", unit(func(u *Unit) { u.NeedReload = true }), `reload`},
		{"not enabled", unit(func(u *Unit) { u.Enabled = false }), `a: update
    enable unit opencode-a.service
reload`},
		{"unit left in the other directory", func(o *Observed) { o.Stale["a"] = []string{"/run/systemd/system/" + serviceA} }, `a: update
    remove unit /run/systemd/system/opencode-a.service (unit_dir changed)
reload`},

		{"stopped", unit(func(u *Unit) { u.Active, u.Sub = "inactive", "dead" }), `a: start (not running)
    start service opencode-a.service (not running)`},
		{"failed", unit(func(u *Unit) { u.Active, u.Sub = "failed", "failed" }), `a: start (failed)
    start service opencode-a.service (failed)`},
		{"failing again and again", unit(func(u *Unit) { u.Active, u.Sub = "activating", "auto-restart" }), `a: start (failed)
    start service opencode-a.service (failed)`},
		{"unit missing and stopped", func(o *Observed) {
			gone(unitA)(o)
			unit(func(u *Unit) { *u = Unit{} })(o)
		}, `a: create (new)
    create unit /etc/systemd/system/opencode-a.service
    enable unit opencode-a.service
    start service opencode-a.service (new)
reload`},
		{"without a generation", unit(func(u *Unit) { u.Generation = "" }), `a: restart (started by something else)
    restart service opencode-a.service (started by something else)`},
		{"generation of another make", unit(func(u *Unit) { u.Generation = "unit:1,other:2" }), ""},

		{"removed instance", func(o *Observed) {
			o.Leftovers = []Leftover{{Name: "aa", Active: true, Table: true,
				Files: []string{"/etc/systemd/system/opencode-aa-setup.service", "/etc/systemd/system/opencode-aa.service"}}}
			o.Units["opencode-aa.service"] = Unit{Active: "active", Enabled: true}
		}, `aa: remove (not in the inventory)
    stop service opencode-aa.service
    disable unit opencode-aa.service
    remove unit /etc/systemd/system/opencode-aa-setup.service
    remove unit /etc/systemd/system/opencode-aa.service
    remove rules opencode-aa
reload`},
		{"removed instance, units only", func(o *Observed) {
			o.Leftovers = []Leftover{{Name: "z", Files: []string{"/run/systemd/system/opencode-z.service"}}}
		}, `z: remove (not in the inventory)
    remove unit /run/systemd/system/opencode-z.service
reload`},
		{"removed instance, opening only", func(o *Observed) {
			o.Leftovers = []Leftover{{Name: "z"}}
			o.Openings["z"] = []Opening{{Manager: UFW, Instance: "z", Rule: "allow 8080/tcp", Saved: true, Loaded: true}}
		}, `z: remove (not in the inventory)
    remove firewall ufw`},
		{"opening that is not wanted", func(o *Observed) {
			o.Openings["a"] = []Opening{{Manager: Firewalld, Instance: "a", Zone: "public", Rule: "rule", Saved: true}}
		}, `a: update
    remove firewall firewalld zone public`},
		{"removed instance, rules only", func(o *Observed) { o.Leftovers = []Leftover{{Name: "z", Table: true}} }, `z: remove (not in the inventory)
    remove rules opencode-z`},
		{"removed instance that still runs", func(o *Observed) { o.Leftovers = []Leftover{{Name: "z", Active: true}} }, `z: remove (not in the inventory)
    stop service opencode-z.service`},
	} {
		want := desire(t, parse(t, two), fixed(parse(t, two)))
		for i := range want.Targets {
			want.Targets[i].NewAccount = false
		}
		have := converged(want)
		c.change(&have)
		p := Diff(want, have)
		if got := strings.Join(lines(p), "\n"); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
		if p.Empty() != (c.want == "") {
			t.Errorf("%s: Empty says %v", c.name, p.Empty())
		}
		if !slices.IsSortedFunc(p.Lanes, func(a, b Lane) int { return strings.Compare(a.Instance, b.Instance) }) {
			t.Errorf("%s: lanes are not sorted", c.name)
		}
	}
}

// TestSecretsAreNotShown: no step carries the text of a secret.
func TestSecretsAreNotShown(t *testing.T) {
	inv := parse(t, two)
	facts := fixed(inv)
	p := Diff(desire(t, inv, facts), Observed{})
	for _, l := range append(p.Lanes, p.Host) {
		for _, s := range l.Steps {
			for _, secret := range []string{facts.Passwords["a"], "TOKEN", string(facts.Key)} {
				if strings.Contains(s.Diff+s.Why+s.Name, secret) {
					t.Errorf("%s %s shows %q", s.Verb, s.Name, secret)
				}
			}
		}
	}
}

// TestOnlyMarkedFilesAreWritten: by the first line others see whose a file is,
// where its format has comments at all.
func TestOnlyMarkedFilesAreWritten(t *testing.T) {
	for _, s := range scenarios(t) {
		for _, target := range s.want.Targets {
			for _, f := range slices.Concat(target.Files, target.Units) {
				ours := strings.HasPrefix(f.Path, instance.DataDir+"/")
				if !ours && !strings.HasPrefix(f.Content, "# Managed by opencoded.") {
					t.Errorf("%s: %s lies outside of %s and bears no mark", s.name, f.Path, instance.DataDir)
				}
			}
		}
	}
}
