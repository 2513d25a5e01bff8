package sandbox

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/opencoded/opencoded/internal/instance"
)

// nasty are values that mean something to systemd, to a shell or to glob(7).
var nasty = []string{
	"plain", "two words", `quote"inside`, "it's", `back\slash`, `\x41`, "per%cent", "%h", "%%", "%", "$HOME", "${HOME}", "$$", "$",
	"semi;colon", ";", "a ; b", "colon:ed", "-dash", "+plus", "@at", "!bang", "|pipe", "~", "#hash", "a=b", "[x]*?", "*", "ünïcode\u00a0nbsp",
	"\u2028line", "tab? no", `"`, `'`, `\`, `\\`, `trailing\ x`, "\U0001F600", "=", "{a,b}", "-", "",
}

// given is an instance whose every free text is one of the values.
func given(path, other string) (Input, bool) {
	p := filepath.Clean("/d/" + path)
	// What the inventory refuses in a path; see instance.path.
	if strings.TrimSpace(p) != p || strings.HasSuffix(p, `\`) || slices.Contains(strings.Split(path, "/"), "..") {
		return Input{}, false
	}
	i := &instance.Instance{
		Name: "x", User: "opencode-x", Group: "opencode-x", ExtraGroups: []string{"a", "b"},
		Directory: p, StateDir: "/s" + p, ConfigLock: true, Auth: true, Restart: "no",
		Listen:           instance.Listen{Address: netip.MustParseAddr("::1"), Port: 1},
		Environment:      []instance.Variable{{Name: "A", Value: other}, {Name: "B", Value: "behind"}},
		EnvironmentFiles: []instance.Path{{Path: "/e" + p, Optional: true}, {Path: "/f" + p}},
		Path:             []string{"/p" + p},
		ExtraArgs:        []string{other, "behind"},
		Credentials:      []instance.Credential{{Name: "token", Path: "/c" + p}, {Name: "key", Path: "/k" + p, Encrypted: true}},
		Sandbox: instance.Sandbox{
			ReadWritePaths:    []instance.Path{{Path: "/w" + p}, {Path: "/wo" + p, Optional: true}},
			ReadOnlyPaths:     []instance.Path{{Path: "/r" + p}, {Path: "/ro" + p, Optional: true}},
			InaccessiblePaths: []instance.Path{{Path: "/i" + p}},
			UnixSockets:       []string{"/u" + p},
		},
	}
	return Input{
		Host:       Host{Opencoded: "/usr/bin/opencoded", SystemdVersion: 252, Shell: "/bin/sh", ResolvDir: "/run/resolved"},
		Instance:   i,
		Opencode:   "/o" + p,
		Protect:    []string{p + "/sub/" + "kept"},
		Generation: "unit:0",
	}, true
}

func fit(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, instance.Unfit) }

func TestWhatSystemdReadsIsWhatWasMeant(t *testing.T) {
	for _, p := range nasty {
		for _, o := range nasty {
			readBack(t, p, o)
		}
	}
}

func FuzzUnit(f *testing.F) {
	for i, s := range nasty {
		f.Add(s, nasty[len(nasty)-1-i])
	}
	f.Add("a\nExecStart=/bin/sh", "b\r\nUser=root")
	f.Add("\xff", "\ufffe")
	f.Fuzz(func(t *testing.T, path, other string) { readBack(t, path, other) })
}

// readBack writes both units and reads them as systemd would.
func readBack(t *testing.T, path, other string) {
	t.Helper()
	in, ok := given(path, other)
	if !ok {
		return
	}
	service, err := Service(in)
	if good := fit(path) && fit(other); good != (err == nil) {
		t.Fatalf("Service(%q, %q): %v", path, other, err)
	}
	if err != nil {
		return
	}
	i := in.Instance
	u := parseUnit(t, service)
	same(t, "ExecStart", one(t, read(u, "ExecStart", single(readCommand))).argv, append([]string{in.Host.Opencoded, "confine", "--", in.Opencode}, arguments(i)...))
	meant(t, u, in)

	setup, err := Setup(in)
	if err != nil {
		t.Fatalf("Setup(%q, %q): %v", path, other, err)
	}
	u = parseUnit(t, setup)
	same(t, "ExecStart", one(t, read(u, "ExecStart", single(readCommand))).argv, []string{in.Host.Opencoded, "confine", "--", "/bin/sh", "-eu", "/run/opencoded/setup/managed.sh"})
	meant(t, u, in)
}

// meant compares what both units have in common.
func meant(t *testing.T, u unitText, in Input) {
	t.Helper()
	i, l := in.Instance, LayoutOf("x")
	pre := one(t, read(u, "ExecStartPre", single(readCommand)))
	same(t, "ExecStartPre", append([]string{pre.prefix}, pre.argv...), []string{"+", in.Host.Opencoded, "net", "ensure", "x"})
	same(t, "WorkingDirectory", read(u, "WorkingDirectory", single(specifiers)), []string{i.Directory})
	same(t, "RootDirectory", read(u, "RootDirectory", single(specifiers)), []string{l.Root})
	same(t, "EnvironmentFile", read(u, "EnvironmentFile", single(environmentFile)),
		[]string{l.Password, "-" + i.EnvironmentFiles[0].Path, i.EnvironmentFiles[1].Path})
	same(t, "SupplementaryGroups", read(u, "SupplementaryGroups", words2), []string{"a", "b"})

	var environ []string
	for _, v := range environment(in) {
		environ = append(environ, v.Name+"="+v.Value)
	}
	same(t, "Environment", read(u, "Environment", words1), environ)

	s := i.Sandbox
	same(t, "ReadWritePaths", read(u, "ReadWritePaths", words2),
		[]string{"+" + i.StateDir, "+" + i.Directory, "+" + s.ReadWritePaths[0].Path, "-+" + s.ReadWritePaths[1].Path})
	same(t, "ReadOnlyPaths", read(u, "ReadOnlyPaths", words2),
		[]string{"+" + s.ReadOnlyPaths[0].Path, "-+" + s.ReadOnlyPaths[1].Path, "-+" + in.Protect[0]})
	same(t, "ExecPaths", read(u, "ExecPaths", words2), []string{"-+" + filepath.Dir(in.Protect[0])})
	same(t, "LoadCredential", read(u, "LoadCredential", single(specifiers)), []string{"token:/c" + i.Directory})
	same(t, "LoadCredentialEncrypted", read(u, "LoadCredentialEncrypted", single(specifiers)), []string{"key:/k" + i.Directory})
	same(t, "InaccessiblePaths", read(u, "InaccessiblePaths", words2), append(slices.Clone(hiddenPaths), "-+"+s.InaccessiblePaths[0].Path))
	same(t, "BindPaths", read(u, "BindPaths", binds), pairs(
		i.StateDir, i.Directory, i.StateDir+"/.config", s.ReadWritePaths[0].Path, "-"+s.ReadWritePaths[1].Path))

	want := pairs(systemPaths...)
	want = append(want, pairs("-/run/resolved", "-/run/nscd")...)
	want = append(want, [2]string{"-/run/nscd", "/var/run/nscd"}, [2]string{in.Opencode, in.Opencode})
	if len(u.all("RemainAfterExit")) > 0 {
		want = append(want, [2]string{l.Setup, setupDir})
	}
	want = append(want, [2]string{l.ConfigFile(), "/etc/opencode/opencode.json"}, [2]string{l.Empty, i.StateDir + "/.opencode"},
		[2]string{l.Config, i.StateDir + "/.config/opencode"})
	want = append(want, pairs(s.ReadOnlyPaths[0].Path, "-"+s.ReadOnlyPaths[1].Path, "-"+s.UnixSockets[0])...)
	same(t, "BindReadOnlyPaths", read(u, "BindReadOnlyPaths", binds), want)

	var assertions []string
	for _, dir := range HomeDirs {
		assertions = append(assertions, filepath.Join(i.StateDir, dir))
	}
	same(t, "AssertPathIsDirectory", read(u, "AssertPathIsDirectory", single(specifiers)), assertions)
}

// words1 reads lists in which C escapes mean something, words2 those in which
// they do not (EXTRACT_CUNESCAPE in systemd's load-fragment.c).
func words1(raw string) ([]string, error) { return list(raw, cEscapes) }
func words2(raw string) ([]string, error) { return list(raw, noEscapes) }

func pairs(paths ...string) [][2]string {
	out := make([][2]string, len(paths))
	for i, p := range paths {
		out[i] = [2]string{p, strings.TrimPrefix(p, "-")}
	}
	return out
}

func one[T any](t *testing.T, list []T) T {
	t.Helper()
	if len(list) != 1 {
		t.Fatalf("%d values, want one: %v", len(list), list)
	}
	return list[0]
}

func same[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s reads as\n%#v, meant was\n%#v", what, got, want)
	}
}
