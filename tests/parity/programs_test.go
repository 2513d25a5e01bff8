package parity

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/document"
)

// programs are both sides.
type programs struct {
	opencoded, opencode string
	homes               chan string // of opencode, one a run: it makes a database at its first
}

// variables are those that cases refer to.
var variables = map[string]string{
	"PARITY_TEXT": "text", "PARITY_SHARE": "disabled", "PARITY_MODEL": "anthropic/claude-sonnet-4-5", "PARITY_KEY": "secret-value",
}

func newPrograms(t *testing.T, opencode string) *programs {
	t.Helper()
	dir := t.TempDir()
	p := &programs{opencoded: filepath.Join(dir, "opencoded"), opencode: opencode, homes: make(chan string, 16)}
	build := exec.Command("go", "build", "-o", p.opencoded, "./cmd/opencoded")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build opencoded: %v\n%s", err, out)
	}
	for i := range cap(p.homes) {
		p.homes <- filepath.Join(dir, "home", string(rune('a'+i)))
	}
	return p
}

// answer is what opencode made of a file.
type answer struct {
	code   int
	config *document.Table // what it loaded
	stderr string
}

// ours runs `config build` on a case, holds it to what the case claims, and sets
// what opencode is to be given.
func (p *programs) ours(t *testing.T, c *testCase) {
	t.Helper()
	dir := t.TempDir()
	name := c.name
	if c.tui {
		name = "tui" + filepath.Ext(c.name)
	}
	write(t, filepath.Join(dir, name), c.text)
	cmd := exec.Command(p.opencoded, "config", "build", "-o", "out", name)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	said, accepted := stderr.String(), err == nil
	switch c.kind {
	case "accept", "warned":
		if !accepted {
			t.Errorf("%s: we reject it: %s\n%s", c, said, c.text)
		}
		if !strings.Contains(said, c.warns) {
			t.Errorf("%s: we do not say %q: %s\n%s", c, c.warns, said, c.text)
		}
		if accepted && !c.tui {
			c.table = readJSON(t, filepath.Join(dir, "out/opencode.json"))
		}
		if c.kind == "warned" && c.original() {
			c.table = c.parsed() // opencode is to take what people wrote
		}
	default:
		if accepted {
			t.Errorf("%s: we accept it: %s\n%s", c, said, c.text)
		}
		if !names(said, c.key) {
			t.Errorf("%s: we do not name %s: %s\n%s", c, document.Join(c.key...), said, c.text)
		}
		c.table = c.parsed()
	}
}

// names reports whether our message names a key: by its path, or as a key that is
// unknown or missing in the table above it.
func names(said string, key []string) bool {
	if len(key) == 1 && key[0] == "" {
		return true
	}
	last, above := key[len(key)-1], document.Join(key[:len(key)-1]...)
	if above == "" {
		above = "opencode.json"
	}
	for _, form := range []string{document.Join(key...), strings.Join(key, ".") + " of ", "\"" + last + "\" in " + above, "key \"" + last + "\" is there already"} {
		if strings.Contains(said, form) {
			return true
		}
	}
	_, missing, found := strings.Cut(said, above+": ")
	missing, _, absent := strings.Cut(missing, " is missing")
	return found && absent && strings.Contains(missing, "\""+last+"\"")
}

func readJSON(t *testing.T, path string) *document.Table {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	table, problems := document.ParseJSON(path, text)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return table
}

// theirs is what opencode says of a project with these cases: in their own words
// where there is one, or as the one document that they make.
func (p *programs) theirs(t *testing.T, cases []*testCase, whole *document.Table) answer {
	t.Helper()
	dir := t.TempDir()
	text := cases[0].text
	if kind := cases[0].kind; len(cases) > 1 || kind == "accept" || !cases[0].original() {
		text = config.Text(&document.Value{Data: whole})
	}
	write(t, filepath.Join(dir, "opencode.json"), text)
	return p.debugConfig(t, dir)
}

// debugConfig runs the real `opencode debug config` in a directory.
func (p *programs) debugConfig(t *testing.T, dir string) answer {
	t.Helper()
	home := <-p.homes
	defer func() { p.homes <- home }()
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.opencode, "debug", "config")
	cmd.Dir = dir
	// Without its slowest compiler it is faster: it lives for two seconds. PURE keeps
	// it from asking the registry for the plugins of a case, and from waiting for it.
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "OPENCODE_DISABLE_MODELS_FETCH=1", "OPENCODE_PURE=1",
		"BUN_JSC_useDFGJIT=0", "NO_COLOR=1"}
	for name, value := range variables {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && (!errors.As(err, &ended) || ctx.Err() != nil) {
		t.Fatalf("debug config: %v: %s", err, stderr.String())
	}
	said := answer{code: cmd.ProcessState.ExitCode(), stderr: stderr.String()}
	if said.code == 0 {
		table, problems := document.ParseJSON("debug config", []byte(stdout.String()))
		if len(problems) > 0 {
			t.Fatalf("debug config prints no JSON: %v\n%s", problems, stdout.String())
		}
		said.config = table
	}
	return said
}
