// Package examples does with the examples of the repository what their own
// READMEs say: what stands there in blocks of commands is run, as it stands, and
// the real opencode is asked what has become of it.
package examples

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/tier"
)

// layers of each example, in the order of its inventory.
var layers = map[string][]string{
	"simple-coding-assistant": {"assistant.toml", "skills.toml"},
	"chief-coding-assistant":  {"team-base.toml", "mcp.jsonc", "personal.toml"},
}

// checkout is where the machine has the repository, as far as an operator needs
// it.
const checkout = "/usr/local/src/opencoded"

func TestMain(m *testing.M) {
	machine.Init()
	os.Exit(m.Run())
}

// TestExamples applies each example to the real opencode in a machine.
func TestExamples(t *testing.T) {
	tier.Need(t, "scenario", tier.Machine())
	opts := machine.Options{Name: "examples"}
	if !machine.Inside() {
		opts.Binds = binds(t)
	}
	t.Run("simple-coding-assistant", func(t *testing.T) { machine.Run(t, opts, simple) })
	t.Run("chief-coding-assistant", func(t *testing.T) { machine.Run(t, opts, chief) })
}

func binds(t *testing.T) []machine.Bind {
	opencode, err := tier.Opencode()
	tier.Need(t, "scenario", err)
	// opencode searches with ripgrep, and lists the files of a skill that it loads.
	// It would download it, and the machine has no network.
	ripgrep, err := exec.LookPath("rg")
	if err != nil {
		err = errors.New("no command rg (apt-get install ripgrep)")
	}
	tier.Need(t, "scenario", err)
	return []machine.Bind{
		{Source: program(t), Target: "/usr/local/bin/opencoded"},
		{Source: opencode, Target: "/usr/local/bin/opencode"},
		{Source: ripgrep, Target: "/usr/local/bin/rg"},
		{Source: "../../../examples", Target: checkout + "/examples"},
	}
}

// program is the one under test.
func program(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../../bin/opencoded")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v (run `make build` first)", err)
	}
	return path
}

// TestExamplesAnywhere needs no machine: as files and as a program the examples
// are for anybody. Done twice, they give the same bytes.
func TestExamplesAnywhere(t *testing.T) {
	if machine.Inside() {
		return // what it looks at is outside
	}
	for name, files := range layers {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			example := "examples/" + name + "/"
			findings := user(t, home, "opencoded config validate --strict "+example+strings.Join(files, " "+example)+"; opencoded validate "+example+"instances.toml")
			operator.Lacks(t, "validate", findings, ": warning: ")

			first := map[string][]byte{}
			for range 2 {
				for _, section := range []string{"As plain files", "As a program", "Look inside"} {
					user(t, home, commands(t, operator.Read(t, "../../../"+example+"README.md"), section))
				}
				for path, text := range tree(t, home) {
					if before, again := first[path]; again && !bytes.Equal(text, before) {
						t.Errorf("%s is not the same the second time", path)
					}
					first[path] = text
				}
			}
			programs, err := filepath.Glob(home + "/*/bin/*")
			if err != nil || len(programs) != 1 {
				t.Fatalf("programs: %v %v", programs, err)
			}
			for path, text := range first {
				if bytes.Contains(text, []byte("/"+example)) {
					t.Errorf("%s refers to %s, which it should not need any more", path, example)
				}
			}
			wrapped(t, home, programs[0], name)
		})
	}
}

// wrapped: the program's opencode knows the example's agents and skills.
func wrapped(t *testing.T, home, program, name string) {
	opencode, err := tier.Opencode()
	tier.Need(t, "opencode", err)
	// Into files: what opencode writes into a pipe may be cut off when it ends.
	user(t, home, "cd; mkdir -p project bin; ln -sf "+opencode+" bin/opencode; cd project; export PATH=$HOME/bin:$PATH OPENCODE_DISABLE_MODELS_FETCH=1\n"+
		"export CHIEF_MODEL=house/coder-large CHIEF_REVIEW_MODEL=openai/gpt-5 CHIEF_EXPLORE_MODEL=house/coder-small\n"+
		program+" agent list > ../agents; "+program+" debug skill > ../skills")
	for agent := range files(t, "../../../examples/"+name+"/agents") {
		if !strings.HasPrefix(agent, "host/") { // the inventory's own
			operator.Contains(t, "agent list", operator.Read(t, home+"/agents"), agent+" (")
		}
	}
	skills, _ := filepath.Glob("../../../examples/" + name + "/skills/*")
	for _, s := range skills {
		operator.Contains(t, "debug skill", operator.Read(t, home+"/skills"), `"name": "`+filepath.Base(s)+`"`)
	}
}

// user runs a script as somebody with this home and the program under test in
// PATH, from the root of the repository.
func user(t *testing.T, home, script string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "bash", "-euc", "cd ../../..\n"+script)
	c.Env = append(os.Environ(), "HOME="+home, "PATH="+filepath.Dir(program(t))+":"+os.Getenv("PATH"))
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	return string(out)
}

// tree reads all regular files below a directory.
func tree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err == nil {
			out[rel], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var codeBlock = regexp.MustCompile("(?s)\n```sh\n(.*?)```")

// commands are the commands below a heading of a README.
func commands(t *testing.T, readme, heading string) string {
	t.Helper()
	_, section, found := strings.Cut(readme, "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	m := codeBlock.FindStringSubmatch(section)
	if !found || m == nil {
		t.Fatalf("the README has no commands below %q", heading)
	}
	return m[1]
}

// install does what the README of an example says about a service. edits are
// shell commands for the files that an operator edits, by path, which they get
// as $1.
func install(t *testing.T, name string, edits map[string]string) {
	t.Helper()
	script := "umask 022\ncd " + checkout + "\nsudo() { \"$@\"; }\nsudoedit() {\n\tcase $1 in\n"
	for _, path := range slices.Sorted(maps.Keys(edits)) {
		script += "\t" + path + ") " + edits[path] + "\n\t;;\n"
	}
	script += "\t*) echo \"who edits $1?\" >&2; return 1 ;;\n\tesac\n}\n"
	operator.Sh(t, script+commands(t, operator.Read(t, checkout+"/examples/"+name+"/README.md"), "As a service"))
	operator.NothingToDo(t)
}
