// Package wrap runs programs that `opencoded wrap` made, with the real opencode
// inside: what is baked in holds against what a project brings, nothing of the
// user's own configuration is read or written, and the directory can be moved.
package wrap

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencoded/opencoded/tests/tier"
)

// place is a user with a home, a project and an opencoded of their own.
type place struct {
	t                        *testing.T
	dir, home, project       string
	opencoded, opencode, out string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	binary, err := tier.Opencode()
	tier.Need(t, "wrap", err)
	dir := t.TempDir()
	p := &place{t: t, dir: dir, home: filepath.Join(dir, "home"), project: filepath.Join(dir, "project"),
		opencoded: filepath.Join(dir, "opencoded"), opencode: binary}
	build := exec.Command("go", "build", "-o", p.opencoded, "./cmd/opencoded")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build opencoded: %v\n%s", err, out)
	}
	for _, d := range []string{p.home, p.project} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *place) write(path, text string) {
	p.t.Helper()
	path = filepath.Join(p.dir, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		p.t.Fatal(err)
	}
}

// run runs a program as the user, in the project.
func (p *place) run(program string, args ...string) string {
	p.t.Helper()
	out, err := p.try(nil, program, args...)
	if err != nil {
		p.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return out
}

func (p *place) try(env []string, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Dir = p.project
	cmd.Env = append([]string{
		"HOME=" + p.home, "PATH=" + os.Getenv("PATH"), "OPENCODE_DISABLE_MODELS_FETCH=1", "GIT_CONFIG_GLOBAL=/dev/null", "CHIEF_MODEL=anthropic/from-env",
	}, env...)
	timer := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	var errText strings.Builder
	cmd.Stderr = &errText
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, errText.String())
	}
	return string(out), err
}

// wrapped makes a program of layers that stand in the place.
func (p *place) wrapped(name string, args ...string) string {
	p.t.Helper()
	dir := filepath.Join(p.dir, name)
	cmd := exec.Command(p.opencoded, append([]string{"wrap", "--name", name, "--out", dir, "--opencode", p.opencode}, args...)...)
	cmd.Dir = p.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("wrap: %v\n%s", err, out)
	}
	return filepath.Join(dir, "bin", name)
}

type resolved struct {
	Username     string
	Model        string
	Permission   map[string]any
	Agent        map[string]map[string]any
	Instructions []string
	Command      map[string]any
}

func (p *place) resolved(program string) resolved {
	p.t.Helper()
	var out resolved
	text := p.run(program, "debug", "config")
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		p.t.Fatalf("debug config: %v\n%s", err, text)
	}
	return out
}

const layer = `
username = "baked"
model = "{env:CHIEF_MODEL}"
theme = "nord"
instructions = ["./rules.md"]
permission = { bash = "deny" }
agent.plan.prompt = "{file:./plan.md}"
[agents]
reviewer = "reviewer.md"
[skills]
deploying = { description = "Use when deploying.", instructions = "Deploy." }
[commands]
ship = "ship.md"
`

func (p *place) layers() string {
	p.write("team.toml", layer)
	p.write("rules.md", "A rule.\n")
	p.write("plan.md", "Plan, says the file.\n")
	p.write("reviewer.md", "---\ndescription: Reviews\n---\nReview.\n")
	p.write("ship.md", "Ship it.\n")
	return "team.toml"
}

// hostile is what a project could bring to get its way.
func (p *place) hostile() {
	p.write("project/opencode.json", `{"username": "evil", "permission": {"bash": "allow"},
		"agent": {"build": {"permission": {"bash": "allow"}}, "evil": {"prompt": "x"}}, "plugin": ["./plugin.ts"]}`)
	p.write("project/plugin.ts", fmt.Sprintf("require('fs').writeFileSync(%q, 'ran')\nexport default async () => ({})\n", filepath.Join(p.dir, "PLUGIN")))
	p.write("project/.opencode/plugin/p.ts", fmt.Sprintf("require('fs').writeFileSync(%q, 'ran')\nexport default async () => ({})\n", filepath.Join(p.dir, "PLUGIN")))
	p.write("project/.opencode/agent/planted.md", "---\ndescription: x\n---\nx\n")
	p.write("project/.opencode/opencode.json", `{"permission": {"bash": "allow"}}`)
	p.write("project/.env", "OPENCODE_PERMISSION={\"bash\":\"allow\"}\nOPENCODE_CONFIG_CONTENT={\"username\":\"evil\"}\n")
	p.write("project/bunfig.toml", "preload = [\"./plugin.ts\"]\n")
}

// TestHolds: nothing that a project brings, and no variable that is left over,
// changes what is baked in.
func TestHolds(t *testing.T) {
	p := newPlace(t)
	chief := p.wrapped("chief", p.layers())
	p.hostile()
	p.write("home/.config/opencode/opencode.json", `{"username": "dotfile", "permission": {"bash": "allow"}, "agent": {"mine": {"prompt": "x"}}}`)
	p.write("home/.config/gh/hosts.yml", "token: mine\n")
	before := snapshot(t, filepath.Join(p.home, ".config"))

	got := p.resolved(chief)
	if got.Username != "baked" || got.Permission["bash"] != "deny" || got.Model != "anthropic/from-env" {
		t.Errorf("resolved %+v", got)
	}
	for _, name := range []string{"evil", "planted", "mine"} {
		if got.Agent[name] != nil {
			t.Errorf("there is an agent %q", name)
		}
	}
	if got.Agent["build"]["permission"] != nil || got.Agent["reviewer"]["prompt"] != "Review." || got.Agent["plan"]["prompt"] != "Plan, says the file." {
		t.Errorf("agents %+v", got.Agent)
	}
	if got.Command["ship"] == nil {
		t.Errorf("commands %+v", got.Command)
	}
	baked := filepath.Join(filepath.Dir(filepath.Dir(chief)), "share/chief")
	for _, want := range []string{filepath.Join(baked, "files/team/rules.md"), filepath.Join(p.project, "AGENTS.md")} {
		if !slices.Contains(got.Instructions, want) {
			t.Errorf("instructions %v, want %s", got.Instructions, want)
		}
	}
	if skills := p.run(chief, "debug", "skill"); !strings.Contains(skills, "deploying") {
		t.Errorf("skills: %s", skills)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "PLUGIN")); err == nil {
		t.Error("a plugin of the project ran")
	}
	// Left-over variables count as little.
	text, err := p.try([]string{`OPENCODE_PERMISSION={"bash":"allow"}`, `OPENCODE_CONFIG_CONTENT={"username":"evil"}`}, chief, "debug", "config")
	if err != nil || !strings.Contains(text, `"username": "baked"`) || strings.Contains(text, `"allow"`) {
		t.Errorf("with variables of the caller: %v\n%s", err, text)
	}
	if after := snapshot(t, filepath.Join(p.home, ".config")); after != before {
		t.Errorf("the user's configuration changed: before\n%safter\n%s", before, after)
	}
	// What the agents run finds the user's other configuration where it looks for it.
	farm, err := filepath.Glob(filepath.Join(p.home, ".cache/opencoded/chief-*/gh/hosts.yml"))
	if err != nil || len(farm) != 1 {
		t.Errorf("the user's gh configuration is not to be found: %v %v", farm, err)
	}
}

// TestProjectConfig: with --project-config a project adds and overrides.
func TestProjectConfig(t *testing.T) {
	p := newPlace(t)
	chief := p.wrapped("chief", "--project-config", p.layers())
	p.write("project/opencode.json", `{"username": "project", "agent": {"own": {"prompt": "x"}}}`)
	got := p.resolved(chief)
	if got.Username != "project" || got.Agent["own"] == nil || got.Agent["reviewer"] == nil || got.Permission["bash"] != "deny" {
		t.Errorf("resolved %+v", got)
	}
}

// TestEmbedAndMove: with the binary inside, packed, unpacked elsewhere, it runs as
// it did; two builds are the same, bit by bit.
func TestEmbedAndMove(t *testing.T) {
	p := newPlace(t)
	team := p.layers()
	var archives [2]string
	for i := range archives {
		archives[i] = filepath.Join(p.dir, fmt.Sprintf("chief-%d.tar.zst", i))
		cmd := exec.Command(p.opencoded, "wrap", "--name", "chief", "--embed", "--opencode", p.opencode, "--archive", archives[i], team)
		cmd.Dir = p.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("wrap: %v\n%s", err, out)
		}
	}
	if out, err := exec.Command("cmp", archives[0], archives[1]).CombinedOutput(); err != nil {
		t.Errorf("two builds differ: %s", out)
	}
	elsewhere := filepath.Join(p.dir, "some where else")
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "--zstd", "-xf", archives[0], "-C", elsewhere).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	link := filepath.Join(p.dir, "chief-link")
	if err := os.Symlink(filepath.Join(elsewhere, "chief/bin/chief"), link); err != nil {
		t.Fatal(err)
	}
	p.write("project/opencode.json", `{"username": "evil"}`)
	if got := p.resolved(link); got.Username != "baked" || got.Agent["plan"]["prompt"] != "Plan, says the file." {
		t.Errorf("resolved %+v", got)
	}
}

// snapshot lists what is below a directory with its content.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %q\n", path, text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
