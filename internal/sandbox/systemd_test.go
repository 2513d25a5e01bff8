package sandbox_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/sandbox"
	"github.com/opencoded/opencoded/tests/judge"
)

// TestSystemdTakesOddValues: the real parser has nothing to say about units full
// of what is special to it. What it makes of them is tests/units' question.
func TestSystemdTakesOddValues(t *testing.T) {
	odd := []string{
		"two words", `"quote`, "it's", `back\slash`, `\x41`, "per%cent", "%h", "$HOME", "${HOME}", "$", "semi;colon", ";", "co:lon",
		"-dash", "+@!|:", "~", "#hash", "a=b", "[x]*?", "ünïcode\u00a0", "\U0001F600", "{a,b}", strings.Repeat("long", 60),
	}
	units := map[string]string{}
	dir := t.TempDir()
	for n, s := range odd {
		// systemd refuses to run what has quotes or backslashes in its path.
		program := filepath.Join(dir, strings.NewReplacer(`"`, "", "'", "", `\`, "").Replace(s))
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		p := "/p/" + s + "/q"
		in := sandbox.Input{
			Host:     sandbox.Host{Opencoded: program, SystemdVersion: 252, Shell: "/bin/sh"},
			Opencode: program,
			Instance: &instance.Instance{
				Name: fmt.Sprintf("x%d", n), User: "daemon", Group: "daemon", Restart: "no",
				Directory: p, StateDir: "/s" + p, ConfigLock: true, Auth: true,
				Listen:           instance.Listen{Address: netip.MustParseAddr("127.0.0.1"), Port: 1},
				Environment:      []instance.Variable{{Name: "A", Value: s}},
				EnvironmentFiles: []instance.Path{{Path: p}},
				Path:             []string{p}, ExtraArgs: []string{s, p},
				Hooks: instance.Hooks{PreInit: s},
				Sandbox: instance.Sandbox{
					ReadWritePaths:    []instance.Path{{Path: p}},
					ReadOnlyPaths:     []instance.Path{{Path: p, Optional: true}},
					InaccessiblePaths: []instance.Path{{Path: p}},
					UnixSockets:       []string{p},
				},
			},
		}
		for name, render := range map[string]func(sandbox.Input) (string, error){
			in.Instance.ServiceName(): sandbox.Service, in.Instance.SetupName(): sandbox.Setup,
		} {
			text, err := render(in)
			if err != nil {
				t.Fatalf("%q: %v", s, err)
			}
			units[name] = text
		}
	}
	judge.Verify(t, units)
}

// TestJudge makes sure that the judge has teeth: it objects to what this project
// is careful about.
func TestJudge(t *testing.T) {
	for _, line := range []string{"Environment=%q", "Environment=A=\uffff", "InaccessiblePaths=a b", "NoSuchDirective=1", `ExecStartPre=/bin/tr"ue`, "WorkingDirectory=/" + strings.Repeat("x", 300)} {
		r := recorder{TB: t}
		judge.Verify(&r, map[string]string{"opencode-x.service": "[Service]\nExecStart=/bin/true\n" + line + "\n"})
		if !r.failed {
			t.Errorf("systemd-analyze verify has nothing against %s", line)
		}
	}
}

// recorder notes a failure instead of passing it on.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Errorf(string, ...any) { r.failed = true }
