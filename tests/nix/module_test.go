package nix

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/internal/sandbox"
)

// inventory builds, and so has opencoded check, what settings lead to.
func inventory(t *testing.T, settings string) string {
	t.Helper()
	return build(t, `(machine `+settings+`).config.environment.etc."opencode/instances.toml".source`)
}

// desired is what the daemon would make of an inventory on a host that does not
// change, read by the real loader.
func desired(t *testing.T, text string) plan.Desired {
	t.Helper()
	inv, problems := instance.Parse("/etc/opencode/instances.toml", []byte(text))
	if len(problems.Errors()) > 0 {
		t.Fatalf("%v\n%s", problems, text)
	}
	facts := plan.Facts{
		Sandbox: sandbox.Host{Opencoded: "/nix/store/x/bin/opencoded", SystemdVersion: 257, Shell: "/bin/sh"},
		Key:     []byte("key"), IDs: instance.UIDRange{First: 900, Last: 999},
		Accounts: map[string]plan.Account{}, Groups: map[string]uint32{"devs": 600}, Taken: map[uint32]bool{},
		Binaries: map[string]plan.Binary{}, Environment: map[string][]byte{}, Credentials: map[string][]byte{},
		ConfigFiles: map[string][]byte{}, Passwords: map[string]string{},
	}
	for _, i := range inv.Instances {
		facts.Binaries[i.Opencode] = plan.Binary{Resolved: i.Opencode, Stamp: "1"}
		facts.Passwords[i.Name] = "password of " + i.Name
		for _, f := range i.EnvironmentFiles {
			facts.Environment[f.Path] = []byte("X=y\n")
		}
		for _, c := range i.Credentials {
			facts.Credentials[c.Path] = []byte("secret")
		}
	}
	facts.Bundles, problems = plan.Configurations(inv, host.Reader{})
	if len(problems.Errors()) > 0 {
		t.Fatalf("%v\n%s", problems, text)
	}
	d, problems := plan.Desire(inv, facts)
	if len(problems.Errors()) > 0 {
		t.Fatalf("%v\n%s", problems, text)
	}
	for n := range d.Targets {
		d.Targets[n].Instance = nil // it knows lines and columns
	}
	return d
}

// samePlan asserts that two inventories lead to the same host.
func samePlan(t *testing.T, got, want plan.Desired) {
	t.Helper()
	if reflect.DeepEqual(got, want) {
		return
	}
	for n := range max(len(got.Targets), len(want.Targets)) {
		if n >= len(got.Targets) || n >= len(want.Targets) {
			t.Errorf("%d targets, want %d", len(got.Targets), len(want.Targets))
			return
		}
		g, w := reflect.ValueOf(got.Targets[n]), reflect.ValueOf(want.Targets[n])
		for f := range g.NumField() {
			if !reflect.DeepEqual(g.Field(f).Interface(), w.Field(f).Interface()) {
				t.Errorf("%s:\n%+v\nwant\n%+v", g.Type().Field(f).Name, g.Field(f).Interface(), w.Field(f).Interface())
			}
		}
	}
	t.Errorf("the plans differ")
}

// TestInventory: what the module writes means what an inventory means that somebody
// wrote by hand.
func TestInventory(t *testing.T) {
	need(t)
	text := read(t, inventory(t, everySetting))
	byHand := strings.NewReplacer("OPENCODE", firstMatch(t, text, `(?m)^opencode = "(.*)"`), "AGENT", firstMatch(t, text, `(?m)^writer = "(.*)"`)).Replace(everyKey)
	samePlan(t, desired(t, text), desired(t, byHand))
	// Only what was set stands there: opencoded knows the rest, and merges the defaults.
	for _, key := range []string{"auth", "restart", "start_timeout", "config_lock", "null"} {
		if strings.Contains(text, key) {
			t.Errorf("%s was not set:\n%s", key, text)
		}
	}
	if _, problems := instance.Parse("instances.toml", []byte(text)); len(problems) > 2 { // the old spellings of hooks
		t.Errorf("%v", problems)
	}
}

const everySetting = `{
	users.mutableUsers = true;
	services.opencode = {
		host = { uidRange = [ 70000 79999 ]; operators = [ "alice" "@devs" ]; egressLayout = "shared"; };
		defaults = {
			logLevel = "warn";
			environment = { TZ = "UTC"; A_b = "1"; };
			sandbox.readOnlyPaths = [ "/srv/shared" ];
			networkIsolation.onBlock = "reject";
			config = { share = "disabled"; permission.bash = "ask"; };
		};
		instances = {
			web = {
				directory = "/srv/web";
				listen = { address = "0.0.0.0"; port = 8787; };
				openFirewall = true;
				environmentFile = [ "/run/secrets/web.env" "-/run/secrets/more.env" ];
				environment.A_b = "2 \"quoted\"";
				model = "anthropic/claude-sonnet-4-5";
				path = [ "/opt/tools/bin" ];
				extraGroups = [ "devs" ];
				sandbox = { readWritePaths = [ "/srv/cache" ]; unixSockets.allow = [ "/run/postgresql" ]; protect = [ "Makefile" ]; };
				networkIsolation = { enable = true; outboundAllowCidrs = [ "10.0.0.0/8" "192.0.2.7:5432" "2001:db8::/32" ]; };
				resources = { memoryMax = "4G"; tasksMax = 512; nofile = "1024:2048"; };
				health = { interval = "30s"; failures = 0; };
				unit.Service = { Nice = 5; Environment = [ "A=1" "B=2" ]; };
				preInitScript = "echo before";
				hooks.postInit = "echo after\necho more";
				agents.writer = ../../examples/chief-coding-assistant/agents/work/writer.md;
				config = {
					permission = [ { "*" = "deny"; } { bash = [ { "*" = "ask"; } { "git log *" = "allow"; } ]; } { edit = "allow"; } ];
					agent.reviewer = { description = "Reviews"; mode = "subagent"; temperature = 0.1; };
					mcp.tools = { type = "local"; command = [ "tools" "--stdio" ]; enabled = true; };
					provider.house.models.large.limit = { context = 131072; output = 16384; };
				};
			};
			off = { enable = false; directory = "/srv/off"; listen.port = 8788; };
			plain = { directory = "/srv/plain"; listen.port = 8789; };
		};
	};
}`

const everyKey = `
version = 1

[host]
unit_dir = "/run/systemd/system"
uid_range = [70000, 79999]
operators = ["alice", "@devs"]
egress_layout = "shared"

[defaults]
opencode = "OPENCODE"
path = ["/usr/bin"]
log_level = "warn"
environment = { A_b = "1", TZ = "UTC" }
sandbox.read_only_paths = ["/srv/shared", "-/run/current-system"]
network_isolation.on_block = "reject"
config = { permission = { bash = "ask" }, share = "disabled" }

[instances.web]
directory = "/srv/web"
listen = { address = "0.0.0.0", port = 8787 }
environment_file = ["/run/secrets/web.env", "-/run/secrets/more.env"]
environment = { A_b = '2 "quoted"' }
model = "anthropic/claude-sonnet-4-5"
path = ["/opt/tools/bin", "/usr/bin"]
extra_groups = ["devs"]
agents.writer = "AGENT"
hooks = { pre_init = "echo before", post_init = "echo after\necho more" }
resources = { memory_max = "4G", tasks_max = 512, nofile = "1024:2048" }
health = { interval = "30s", failures = 0 }

[instances.web.sandbox]
read_write_paths = ["/srv/cache"]
unix_sockets.allow = ["/run/postgresql"]
protect = ["Makefile"]

[instances.web.network_isolation]
enable = true
outbound_allow_cidrs = ["10.0.0.0/8", "192.0.2.7:5432", "2001:db8::/32"]

[instances.web.unit.Service]
Environment = ["A=1", "B=2"]
Nice = 5

[instances.web.config]
permission = { "*" = "deny", bash = { "*" = "ask", "git log *" = "allow" }, edit = "allow" }

[instances.web.config.agent.reviewer]
description = "Reviews"
mode = "subagent"
temperature = 0.1

[instances.web.config.mcp.tools]
command = ["tools", "--stdio"]
enabled = true
type = "local"

[instances.web.config.provider.house.models.large.limit]
context = 131072
output = 16384

[instances.off]
enable = false
directory = "/srv/off"
listen.port = 8788

[instances.plain]
directory = "/srv/plain"
listen.port = 8789
`

func firstMatch(t *testing.T, text, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("nothing matches %s:\n%s", pattern, text)
	}
	return m[1]
}

// TestNeighbour: another instance in a new generation changes nothing of one that was
// there, so nothing restarts it.
func TestNeighbour(t *testing.T) {
	need(t)
	settings := func(more string) string {
		return `{ services.opencode.instances = { a = { directory = "/srv/a"; config.share = "disabled"; }; ` + more + ` }; }`
	}
	before := desired(t, read(t, inventory(t, settings(""))))
	after := desired(t, read(t, inventory(t, settings(`b = { directory = "/srv/b"; listen.port = 8081; };`))))
	after.Targets = slices.DeleteFunc(after.Targets, func(target plan.Target) bool { return target.Policy.Name == "b" })
	samePlan(t, plan.Desired{Targets: after.Targets}, plan.Desired{Targets: before.Targets})
}

// outcome is what suite.nix says of a configuration.
type outcome struct {
	Failed, Warnings, Groups []string
	Ports                    []int
	Users                    map[string]struct {
		Group, Home  string
		IsSystemUser bool
	}
	Inventory string
	Service   struct {
		WantedBy, Reloads []string
		StopIfChanged     bool
	}
}

func outcomeOf(t *testing.T, settings string) outcome {
	t.Helper()
	return evaluate[outcome](t, "outcome "+settings)
}

// TestSystem: what NixOS itself is told.
func TestSystem(t *testing.T) {
	const two = `instances = { a = { directory = "/srv/a"; openFirewall = true; listen.address = "0.0.0.0"; };
		b = { directory = "/srv/b"; listen.port = 8081; group = "devs"; stateDir = "/srv/state"; };
		off = { enable = false; directory = "/srv/off"; openFirewall = true; listen.port = 8082; }; };`
	o := outcomeOf(t, `{ services.opencode = { `+two+` }; }`)
	if !slices.Equal(o.Ports, []int{8080}) || len(o.Users) > 0 || len(o.Failed) > 0 || len(o.Warnings) > 0 {
		t.Errorf("%+v", o)
	}
	if !slices.Equal(o.Service.WantedBy, []string{"multi-user.target"}) || !slices.Equal(o.Service.Reloads, []string{o.Inventory}) || o.Service.StopIfChanged {
		t.Errorf("%+v", o.Service)
	}

	o = outcomeOf(t, `{ users.mutableUsers = false; services.opencode = { `+two+` }; }`)
	if names := slices.Sorted(maps.Keys(o.Users)); !slices.Equal(names, []string{"opencode-a", "opencode-b"}) || !slices.Equal(o.Groups, []string{"devs", "opencode-a"}) {
		t.Errorf("users %q, groups %q", names, o.Groups)
	}
	if a, b := o.Users["opencode-a"], o.Users["opencode-b"]; !a.IsSystemUser || a.Home != instance.StateRoot+"/a" || a.Group != "opencode-a" || b.Group != "devs" || b.Home != "/srv/state" {
		t.Errorf("%+v", o.Users)
	}

	// Off, it says nothing at all.
	if o := outcomeOf(t, `{ services.opencode.enable = lib.mkForce false; environment.etc."opencode/instances.toml".source = "none"; systemd.services.opencoded = { wantedBy = [ ]; stopIfChanged = true; reloadTriggers = [ ]; }; }`); o.Inventory != "none" {
		t.Errorf("%+v", o)
	}
}

// TestRefusals: a mistake is refused, and what is said names the option.
func TestRefusals(t *testing.T) {
	need(t)
	const web = `{ services.opencode.instances.web = { directory = "/srv/web"; %s }; }`
	for _, c := range []struct{ name, settings, want string }{
		{"wrong type", `listen.port = "8080";`, "services.opencode.instances.web.listen.port"},
		{"out of range", `listen.port = 70000;`, "services.opencode.instances.web.listen.port"},
		{"unknown option", `directroy = "/srv/x";`, "services.opencode.instances.web.directroy"},
		{"not a word of the list", `networkIsolation.onBlock = "explode";`, "services.opencode.instances.web.networkIsolation.onBlock"},
		{"not a network", `networkIsolation.outboundAllowCidrs = [ "example.com" ];`, "services.opencode.instances.web.networkIsolation.outboundAllowCidrs"},
		{"a secret as a path literal", `environmentFile = ./nix_test.go;`, "services.opencode.instances.web.environmentFile"},
		{"a secret in the store", `environmentFile = "${pkgs.writeText "secret" "KEY=1"}";`, "services.opencode.instances.web.environmentFile"},
		{"a credential in the store", `credentials.key = "${./nix_test.go}";`, "services.opencode.instances.web.credentials.key"},
		{"unknown key of opencode", `config.permision.bash = "ask";`, "services.opencode.instances.web.config.permision"},
		{"wrong value of opencode", `config.share = "maybe";`, "services.opencode.instances.web.config.share"},
		{"wrong rule", `config.permission.bash = [ { "*" = "perhaps"; } ];`, "services.opencode.instances.web.config.permission"},
		{"two rules in one", `config.permission.bash = [ { a = "ask"; b = "deny"; } ];`, "services.opencode.instances.web.config.permission"},
		{"wrong in a named table", `config.agent.reviewer.steps = 0;`, "services.opencode.instances.web.config.agent.reviewer.steps"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := try("outcome " + fmt.Sprintf(web, c.settings))
			if err == nil {
				t.Fatal("it is accepted")
			}
			contains(t, err.Error(), c.want)
		})
	}
	t.Run("no directory", func(t *testing.T) {
		_, err := try(`outcome { services.opencode.instances.web = { }; }`)
		contains(t, fmt.Sprint(err), "services.opencode.instances.web.directory")
	})
}

// TestAssertions: what no type can say, each with the whole path of the option.
func TestAssertions(t *testing.T) {
	o := outcomeOf(t, `{ users.mutableUsers = false; services.opencode.instances = {
		Bad = { directory = "/srv/bad"; listen.port = 1; };
		x-setup = { directory = "/srv/x"; listen.port = 2; };
		a = { directory = "/srv/a"; };
		b = { directory = "/srv/b"; user = "stranger"; };
	}; }`)
	contains(t, strings.Join(o.Failed, "\n"),
		"services.opencode.instances.Bad: use 1 to 22", "services.opencode.instances.x-setup: use 1 to 22",
		"services.opencode.instances.b.listen.port: 8080 is also the port of services.opencode.instances.a",
		"services.opencode.instances.b.user: there is no users.users.stranger")
	if len(o.Failed) != 4 {
		t.Errorf("%q", o.Failed)
	}
	if o := outcomeOf(t, `{ system.etc.overlay = { enable = true; mutable = false; }; }`); len(o.Failed) != 1 {
		t.Errorf("an /etc that cannot be changed: %q", o.Failed)
	}

	o = outcomeOf(t, `{ services.opencode.instances = {
		a = { directory = "/srv/a"; configFile = "/etc/own.json"; config.share = "disabled"; };
		b = { directory = "/srv/b"; listen.port = 2; openFirewall = true; };
	}; }`)
	contains(t, strings.Join(o.Warnings, "\n"), "services.opencode.instances.a.configFile is used as it is", "services.opencode.instances.b.openFirewall has no effect")
	if len(o.Warnings) != 2 {
		t.Errorf("%q", o.Warnings)
	}
}

// TestCheckedWhileBuilt: what only opencoded knows fails the build, in its words.
func TestCheckedWhileBuilt(t *testing.T) {
	need(t)
	for _, c := range []struct{ name, settings, want string }{
		{"reach without a password", `auth = false; listen.address = "0.0.0.0";`, "instances.web.auth: a server on 0.0.0.0 without a password"},
		{"an owned variable", `environment.HOME = "/x";`, "instances.web.environment.HOME: opencoded owns this variable"},
		{"an agent that is not there", `agents.x = "${builtins.storeDir}/absent.md";`, "cannot read agent"},
		{"a colon too many", `networkIsolation.outboundAllowCidrs = [ "10.0.0.0/33" ];`, "instances.web.network_isolation.outbound_allow_cidrs"},
		{"a rule for another tool", `config.permission.bash."rm -rf" = "deny"; config.mcp.x = { type = "local"; };`, "mcp.x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := tryBuild(`(machine { services.opencode.instances.web = { directory = "/srv/web"; ` + c.settings + ` }; }).config.environment.etc."opencode/instances.toml".source`)
			if err == nil {
				t.Fatal("it is built")
			}
			contains(t, err.Error(), c.want, "services.opencode is not valid")
		})
	}
}

// TestSecretsStayOutside: a secret is named in the store, and never read into it.
func TestSecretsStayOutside(t *testing.T) {
	need(t)
	secret := filepath.Join(t.TempDir(), "web.env")
	if err := os.WriteFile(secret, []byte("ANTHROPIC_API_KEY=planted-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := read(t, inventory(t, fmt.Sprintf(`{ services.opencode.instances.web = { directory = "/srv/web"; environmentFile = %q; credentials.key = %q; }; }`, secret, secret)))
	contains(t, text, secret)
	err := filepath.WalkDir(place.dir+"/store", func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, "/opencode") {
			return err
		}
		if data, err := os.ReadFile(path); err != nil || strings.Contains(string(data), "planted-secret") {
			t.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestOptionsAreDocumented: each option has a description, and docs/nixos.md names none
// that there is not.
func TestOptionsAreDocumented(t *testing.T) {
	type option struct {
		Name        string
		Description any
		Visible     any
	}
	names := map[string]bool{}
	for _, o := range evaluate[[]option](t, `map (o: builtins.deepSeq [ (o.default or null) (o.example or null) o.type ] { inherit (o) name visible; description = o.description or null; }) documented`) {
		names[o.Name] = true
		if o.Description == nil || o.Description == "" {
			t.Errorf("%s has no description", o.Name)
		}
	}
	if len(names) < 500 {
		t.Errorf("only %d options", len(names))
	}
	for _, known := range []string{
		"directory", "listen.port", "environmentFile", "package", "path", "openFirewall", "sandbox.readWritePaths", "sandbox.readOnlyPaths",
		"sandbox.unixSockets.allow", "networkIsolation.enable", "networkIsolation.outboundAllowCidrs", "preInitScript", "postInitScript", "configFile", "config.share",
	} {
		if !names["services.opencode.instances.<name>."+known] {
			t.Errorf("there is no option %s, which the predecessor has", known)
		}
	}
	for _, name := range regexp.MustCompile("`(services\\.opencode[A-Za-z.<>]*)`").FindAllStringSubmatch(read(t, place.root+"/docs/nixos.md"), -1) {
		if n := strings.TrimSuffix(name[1], "."); n != "services.opencode" && !names[n] {
			t.Errorf("docs/nixos.md names %s, which is no option", n)
		}
	}
}
