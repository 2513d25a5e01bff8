package nix

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestChecks builds what `nix flake check` builds, but for the virtual machines: the
// real opencode among it.
func TestChecks(t *testing.T) {
	need(t)
	names := []string{"empty-config", "wrap-opencode-type", "field-output-check", "config-zod-tests", "overlay-mkOpenCodeConfig", "overlay-wrapOpenCode", "nixos-module-eval"}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			build(t, "flake.checks.x86_64-linux."+name)
		})
	}
	if all := evaluate[[]string](t, `builtins.attrNames flake.checks.x86_64-linux`); len(all) != len(names)+len(machines(t)) {
		t.Errorf("the checks are %q", all)
	}
}

// TestLayers: modules are layers, by the rules of the module system.
func TestLayers(t *testing.T) {
	text := read(t, build(t, `pkgs.lib.opencode.mkOpenCodeConfig [
		({ lib, ... }: { opencode = { share = "manual"; username = lib.mkDefault "team"; instructions = [ "/a.md" ]; permission.bash = { "git push *" = "ask"; "*" = "allow"; "rm*" = "ask"; "rm -rf *" = "deny"; }; }; })
		{ opencode = { share = lib.mkForce "disabled"; username = "mine"; instructions = [ "/b.md" ]; snapshot = lib.mkIf false true; permission = [ { edit = "ask"; } { bash."git push *" = lib.mkForce "deny"; } ]; }; }
	]`))
	var got struct {
		Schema          string `json:"$schema"`
		Share, Username string
		Instructions    []string
		Permission      json.RawMessage
		Snapshot        any
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got.Instructions)
	var rules bytes.Buffer
	if err := json.Compact(&rules, got.Permission); err != nil {
		t.Fatal(err)
	}
	// The more general pattern first; a rule that is given again keeps its place.
	want := `"bash":{"*":"allow","git push *":"deny","rm*":"ask","rm -rf *":"deny"}`
	if got.Schema == "" || got.Share != "disabled" || got.Username != "mine" || got.Snapshot != nil ||
		!slices.Equal(got.Instructions, []string{"/a.md", "/b.md"}) || !strings.Contains(rules.String(), want) {
		t.Errorf("%s", text)
	}
}

// TestFunctionsRefuse: what the types cannot know is opencoded's to say.
func TestFunctionsRefuse(t *testing.T) {
	need(t)
	for module, want := range map[string]string{
		`{ opencode.shrae = "manual"; }`:                               "opencode.shrae",
		`{ opencode.agent.x.mode = "both"; }`:                          "opencode.agent.x.mode",
		`{ opencode.mcp.x = { type = "local"; comand = [ "x" ]; }; }`:  "comand",
		`{ theme = "dark"; }`:                                          "theme",
		`{ opencode.agents.x = "${builtins.storeDir}/not-there.md"; }`: "cannot read agent",
	} {
		_, err := tryBuild(`pkgs.lib.opencode.mkOpenCodeConfig [ ` + module + ` ]`)
		if err == nil {
			t.Errorf("%s is accepted", module)
			continue
		}
		contains(t, err.Error(), want)
	}
}

// TestWrapped runs what wrapOpenCode gives: the real opencode, whose configuration
// holds against what the project says.
func TestWrapped(t *testing.T) {
	out := build(t, `pkgs.lib.opencode.wrapOpenCode { name = "chief"; opencode = pkgs.opencode; modules = [
		{ opencode = { model = "anthropic/claude-sonnet-4-5"; share = "disabled"; permission.bash = "deny"; theme = "catppuccin";
			agents.reviewer = ../../examples/simple-coding-assistant/agents/reviewer.md;
			skills.deploying = { description = "How to deploy"; instructions = "Run make deploy."; }; }; }
	]; }`)
	home, project := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(project, "opencode.json"), []byte(`{"share": "auto", "permission": {"bash": "allow"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	ask := func(args ...string) string {
		t.Helper()
		answer := filepath.Join(home, "answer") // not a pipe, into which opencode may not write all
		f, err := os.Create(answer)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		c := exec.CommandContext(t.Context(), filepath.Join(out, "bin/chief"), args...)
		c.Dir, c.Stdout, c.Stderr = project, f, os.Stderr
		c.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "OPENCODE_DISABLE_MODELS_FETCH=1"}
		if err := c.Run(); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return read(t, answer)
	}
	var config struct {
		Share, Model string
		Permission   map[string]any
	}
	if err := json.Unmarshal([]byte(ask("debug", "config")), &config); err != nil {
		t.Fatal(err)
	}
	if config.Share != "disabled" || config.Model != "anthropic/claude-sonnet-4-5" || config.Permission["bash"] != "deny" {
		t.Errorf("%+v", config)
	}
	contains(t, ask("agent", "list"), "reviewer (")
	contains(t, ask("debug", "skill"), `"name": "deploying"`)
	if name := evaluate[string](t, `lib.getExe (pkgs.lib.opencode.wrapOpenCode { name = "chief"; modules = [ ]; })`); filepath.Base(name) != "chief" {
		t.Errorf("nix run would start %s", name)
	}
}

// layers of the examples, as their inventories name them.
var layers = map[string][]string{
	"simple-coding-assistant": {"assistant.toml", "skills.toml"},
	"chief-coding-assistant":  {"team-base.toml", "mcp.jsonc", "personal.toml"},
}

// TestExamples: an example says the same as module and as layers of TOML, file by file.
func TestExamples(t *testing.T) {
	for name, files := range layers {
		t.Run(name, func(t *testing.T) {
			asModule := build(t, `(pkgs.lib.opencode.mkOpenCodeConfig [ flake.examples.`+name+` ]).directory`)
			asLayers := filepath.Join(t.TempDir(), "built")
			args := []string{"config", "build", "-o", asLayers}
			for _, f := range files {
				args = append(args, filepath.Join(place.root, "examples", name, f))
			}
			if out, err := exec.Command(place.opencoded, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			same(t, asModule, asLayers, "opencode.json")
			if name == "chief-coding-assistant" {
				same(t, asModule, asLayers, "tui.json")
			}
			for _, dir := range []string{"agents", "skills", "commands"} {
				sameFiles(t, filepath.Join(asModule, dir), filepath.Join(asLayers, dir))
			}
			asService(t, name)
		})
	}
}

// asService compares the example's service with its inventory: what each instance is
// given besides what the module adds.
func asService(t *testing.T, name string) {
	t.Helper()
	text := read(t, build(t, `(machine { imports = [ flake.nixosModules.example-`+name+` ]; }).config.environment.etc."opencode/instances.toml".source`))
	for _, line := range strings.Split(read(t, filepath.Join(place.root, "examples", name, "instances.toml")), "\n") {
		line, _, _ = strings.Cut(line, " #")
		line = strings.TrimSpace(line)
		key, value, isPair := strings.Cut(line, " = ")
		switch {
		case !isPair || strings.HasPrefix(line, "#") || key == "version" || key == "config_layers" || strings.Contains(value, ".md"):
		case key == "listen.port":
			contains(t, text, "port = "+strings.TrimSpace(value))
		default:
			contains(t, text, key+" = "+strings.TrimSpace(value))
		}
	}
}

var reference = regexp.MustCompile(`(\{file:)?(/[^"}]+\.md)\}?`)

// same compares two files of JSON. The files that they name are compared by what is in
// them; the order of keys counts where it is meaning, in permissions.
func same(t *testing.T, dir, other, name string) {
	t.Helper()
	meaning := func(dir string) (string, string) {
		text := reference.ReplaceAllStringFunc(read(t, filepath.Join(dir, name)), func(s string) string {
			return fmt.Sprintf("%x", read(t, reference.FindStringSubmatch(s)[2]))
		})
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		sorted, _ := json.MarshalIndent(v, "", " ")
		return string(sorted), strings.Join(permissions(t, []byte(text)), "\n")
	}
	got, gotRules := meaning(dir)
	want, wantRules := meaning(other)
	if got != want {
		t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
	}
	if gotRules != wantRules {
		t.Errorf("rules:\n%s\nwant\n%s", gotRules, wantRules)
	}
}

// permissions lists each permission of a configuration, with the keys in their order.
func permissions(t *testing.T, text []byte) []string {
	t.Helper()
	type part struct {
		Permission json.RawMessage
		Agent      map[string]struct{ Permission json.RawMessage }
	}
	var p part
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	var out []string
	add := func(name string, rules json.RawMessage) {
		var b bytes.Buffer
		if rules != nil && json.Compact(&b, rules) == nil {
			out = append(out, name+": "+b.String())
		}
	}
	add("all", p.Permission)
	for name, a := range p.Agent {
		add(name, a.Permission)
	}
	slices.Sort(out)
	return out
}

func sameFiles(t *testing.T, dir, other string) {
	t.Helper()
	if out, err := exec.Command("diff", "-r", dir, other).CombinedOutput(); err != nil {
		t.Errorf("%s", out)
	}
}
