// Package units asks the real systemd what it makes of units full of odd values.
// The sandbox's own tests read them by the manual; here PID 1 has read them, and a
// process has been started with them.
package units

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/sandbox"
	"github.com/opencoded/opencoded/tests/judge"
	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/tier"
)

func TestMain(m *testing.M) {
	machine.Init()
	if path := os.Getenv(witnessVariable); path != "" {
		witness(path)
		return
	}
	os.Exit(m.Run())
}

func TestSystemdReadsWhatWasMeant(t *testing.T) {
	tier.Need(t, "units", tier.Machine())
	machine.Run(t, machine.Options{Name: "units"}, readBack)
}

// odd are values that mean something to systemd, to glob(7) or to a shell. A "/"
// cannot stand in a name, and the last one is as long as a name can be.
var odd = []string{
	"two words", `"quote`, "it's", `back\slash`, `\x41`, "per%cent", "%h", "%%", "$HOME", "${HOME}", "$$", "semi;colon", ";", "co:lon",
	"-dash", "+@!|:", "~", "#hash", "a=b", "[x]*?", "ünïcode\u00a0\u2028", "\U0001F600", "{a,b}", "…" + strings.Repeat("x", 252),
}

func readBack(t *testing.T) {
	// What "[x]*?" and its like must not match.
	for _, decoy := range []string{"/e/x", "/e/xyz"} {
		write(t, decoy, "DECOY=1\n", 0o644)
	}
	var inputs []sandbox.Input
	// The rules are not what this is about; the program is started by its arguments.
	const opencoded = "/usr/local/bin/opencoded-of-units"
	write(t, opencoded, "#!/bin/sh\nif [ \"$1 $2\" = \"confine --\" ]; then shift 2; exec \"$@\"; fi\n", 0o755)
	host := sandbox.Host{Opencoded: opencoded, SystemdVersion: judge.SystemdVersion(t), Shell: "/bin/sh"}
	for n, s := range odd {
		if strings.ContainsAny(s, host.Unbindable()) {
			continue // refused by the plan
		}
		in := input(host, n, s)
		prepare(t, in)
		for name, render := range map[string]func(sandbox.Input) (string, error){
			in.Instance.ServiceName(): sandbox.Service, in.Instance.SetupName(): sandbox.Setup,
		} {
			text, err := render(in)
			if err != nil {
				t.Fatalf("%q: %v", s, err)
			}
			write(t, "/etc/systemd/system/"+name, text, 0o644)
		}
		inputs = append(inputs, in)
	}
	output(t, "systemctl", "daemon-reload")
	for _, in := range inputs {
		t.Run(fmt.Sprintf("%.20q", in.Instance.Environment[0].Value), func(t *testing.T) {
			started(t, in)
			shown(t, in)
		})
	}
	if said := output(t, "journalctl", "--no-pager", "-o", "cat", "-t", "systemd", "--grep", "opencode-.*(ignor|invalid|fail|unknown|error)"); said != "" {
		t.Errorf("systemd complains:\n%s", said)
	}
}

// input is an instance whose every free text is s.
func input(host sandbox.Host, n int, s string) sandbox.Input {
	name, noColon := fmt.Sprintf("odd%d", n), strings.ReplaceAll(s, ":", "")
	// systemd runs nothing that has quotes or backslashes in its path.
	program := "/opt/" + strings.NewReplacer(`"`, "", "'", "", `\`, "").Replace(s)
	return sandbox.Input{
		Host:       host,
		Opencode:   program,
		Generation: "unit:1",
		// A colon separates the fields of /etc/passwd and the directories of PATH.
		Instance: &instance.Instance{
			Name: name, User: "daemon", Group: "daemon", Restart: "no", ConfigLock: true, Auth: true,
			Directory: "/d/" + s, StateDir: "/s/" + noColon,
			Listen:           instance.Listen{Address: netip.MustParseAddr("127.0.0.1"), Port: uint16(8000 + n)},
			Environment:      []instance.Variable{{Name: "ODD", Value: s}, {Name: witnessVariable, Value: "/s/" + noColon + "/witness"}},
			EnvironmentFiles: []instance.Path{{Path: "/e/" + s}},
			Path:             []string{"/p/" + noColon},
			ExtraArgs:        []string{s, "--" + s, "last"},
			Sandbox: instance.Sandbox{
				ReadWritePaths:    []instance.Path{{Path: "/w/" + s}},
				ReadOnlyPaths:     []instance.Path{{Path: "/r/" + s}, {Path: "/missing/" + s, Optional: true}},
				InaccessiblePaths: []instance.Path{{Path: "/w/" + s + "/hidden"}},
				UnixSockets:       []string{"/u/" + s},
			},
		},
	}
}

// prepare makes on the machine what an apply would have made.
func prepare(t *testing.T, in sandbox.Input) {
	t.Helper()
	i, l := in.Instance, sandbox.LayoutOf(in.Instance.Name)
	dirs := []string{i.Directory, i.StateDir, l.Config, l.Empty, l.Setup, filepath.Join(l.Root, i.Directory), "/opt",
		i.Sandbox.ReadWritePaths[0].Path + "/hidden", i.Sandbox.ReadOnlyPaths[0].Path, i.Sandbox.UnixSockets[0]}
	for _, d := range sandbox.HomeDirs {
		dirs = append(dirs, filepath.Join(i.StateDir, d))
	}
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{i.StateDir, i.Directory, i.Sandbox.ReadWritePaths[0].Path} {
		output(t, "chown", "-R", "daemon:daemon", "--", d)
	}
	write(t, l.ConfigFile(), "{}\n", 0o644)
	write(t, l.Password, "OPENCODE_SERVER_PASSWORD=secret\n", 0o600)
	write(t, filepath.Join(l.Setup, sandbox.Managed), "touch \"$HOME/set-up\"\n", 0o644)
	write(t, i.EnvironmentFiles[0].Path, "FROM_FILE=yes\n", 0o600)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	output(t, "cp", "--", self, in.Opencode)
	output(t, "chmod", "755", "--", in.Opencode)
}

// started starts the units and compares what the process saw.
func started(t *testing.T, in sandbox.Input) {
	t.Helper()
	i := in.Instance
	if out, err := exec.Command("systemctl", "start", i.ServiceName()).CombinedOutput(); err != nil {
		journal, _ := exec.Command("journalctl", "--no-pager", "-n", "30", "-u", i.ServiceName(), "-u", i.SetupName()).CombinedOutput()
		t.Fatalf("cannot start %s: %v\n%s%s", i.ServiceName(), err, out, journal)
	}
	if _, err := os.Stat(filepath.Join(i.StateDir, "set-up")); err != nil {
		t.Errorf("the set-up did not run with HOME=%s: %v", i.StateDir, err)
	}
	got := awaitTestimony(t, filepath.Join(i.StateDir, "witness"))
	path := i.Path[0] + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	args := append([]string{"serve", "--print-logs", "--hostname", "127.0.0.1", "--port", fmt.Sprint(i.Listen.Port)}, i.ExtraArgs...)
	if !slices.Equal(got.Args[1:], args) {
		t.Errorf("arguments are\n%q, meant were\n%q", got.Args[1:], args)
	}
	for name, want := range map[string]string{
		"ODD": i.Environment[0].Value, "HOME": i.StateDir, "PATH": path, "OPENCODED_PATH": path, "FROM_FILE": "yes", "DECOY": "",
		"OPENCODE_SERVER_PASSWORD": "secret", "OPENCODED_GENERATION": "unit:1",
	} {
		if got.Environment[name] != want {
			t.Errorf("%s is %q, meant was %q", name, got.Environment[name], want)
		}
	}
	if got.Directory != i.Directory {
		t.Errorf("the working directory is %q, meant was %q", got.Directory, i.Directory)
	}
	s := i.Sandbox
	for dir, want := range map[string]string{
		i.Directory: "writable", i.StateDir: "writable", s.ReadWritePaths[0].Path: "writable", s.ReadOnlyPaths[0].Path: "read-only",
		s.UnixSockets[0]: "read-only", filepath.Join(i.StateDir, ".opencode"): "read-only", s.ReadWritePaths[0].Path + "/hidden": "hidden",
		"/e": "missing", "/var/lib/opencoded": "missing",
	} {
		if seen := got.look(dir); seen != want {
			t.Errorf("%q is %s, meant was %s", dir, seen, want)
		}
	}
}

// shown compares what systemd says of the loaded unit, where it says it without
// quoting of its own.
func shown(t *testing.T, in sandbox.Input) {
	t.Helper()
	i := in.Instance
	for property, want := range map[string]string{
		"Description": "opencode server " + i.Name + " for " + i.Directory, "WorkingDirectory": i.Directory,
		"RootDirectory": sandbox.LayoutOf(i.Name).Root, "SyslogIdentifier": "opencode-" + i.Name, "LoadError": "", "NeedDaemonReload": "no",
	} {
		if got := output(t, "systemctl", "show", "--value", "-p", property, i.ServiceName()); got != want {
			t.Errorf("%s is %q, meant was %q", property, got, want)
		}
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && name != "journalctl" { // which fails when nothing matches
		t.Fatalf("%s %q: %v: %s", name, args, err, stderr.String())
	}
	return strings.TrimRight(string(out), "\n")
}
