package sandbox

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/destination"
	"github.com/opencoded/opencoded/internal/instance"
)

func TestHardeningHasReasons(t *testing.T) {
	seen := map[string]bool{}
	for _, h := range hardening {
		line := h.key + "=" + h.value
		if len(h.stops) < 10 {
			t.Errorf("%s stands there without a reason", line)
		}
		if seen[line] {
			t.Errorf("%s is listed twice", line)
		}
		seen[line] = true
	}
}

// TestSetupRunsInTheServersSandbox: hooks can do no more than the server.
func TestSetupRunsInTheServersSandbox(t *testing.T) {
	in, _ := given("p", "v")
	texts := map[string]unitText{}
	for name, render := range map[string]func(Input) (string, error){"service": Service, "setup": Setup} {
		text, err := render(in)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = parseUnit(t, text)
	}
	for _, key := range []string{"User", "Group", "SupplementaryGroups", "WorkingDirectory", "Environment", "EnvironmentFile", "ExecStartPre",
		"RootDirectory", "BindPaths", "ReadWritePaths", "InaccessiblePaths", "IPAddressDeny", "TasksMax"} {
		same(t, key, texts["setup"].all(key), texts["service"].all(key))
	}
	for _, h := range hardening {
		for name, u := range texts {
			if !slices.Contains(u.all(h.key), h.value) {
				t.Errorf("%s lacks %s=%s", name, h.key, h.value)
			}
		}
	}
}

func TestAddresses(t *testing.T) {
	var allow []destination.Destination
	for _, s := range []string{"10.0.0.0/8", "[2001:db8::/32]:443", "10.1.0.0/16:53/udp"} {
		d, _, err := destination.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		allow = append(allow, d)
	}
	for _, c := range []struct {
		name, listen string
		isolated     bool
		mode         string
		deny         []string
		allow        []string
	}{
		{"isolated on loopback", "127.0.0.1", true, "enforce", []string{"any"}, []string{"localhost", "10.0.0.0/8", "2001:db8::/32"}},
		{"isolated on loopback, v6", "::1", true, "enforce", []string{"any"}, []string{"localhost", "10.0.0.0/8", "2001:db8::/32"}},
		{"a public listener would refuse its clients", "0.0.0.0", true, "enforce", nil, []string{"any"}},
		{"one address is public too", "192.0.2.1", true, "enforce", nil, []string{"any"}},
		{"not isolated", "127.0.0.1", false, "enforce", nil, []string{"any"}},
		{"nothing is blocked", "127.0.0.1", true, "report", nil, []string{"any"}},
	} {
		in, _ := given("p", "v")
		in.Instance.Listen.Address = netip.MustParseAddr(c.listen)
		in.Instance.Network = instance.Network{Enable: c.isolated, Mode: c.mode, DNS: true, Allow: allow}
		text, err := Service(in)
		if err != nil {
			t.Fatal(err)
		}
		u := parseUnit(t, text)
		same(t, c.name+": IPAddressDeny", u.all("IPAddressDeny"), c.deny)
		same(t, c.name+": IPAddressAllow", u.all("IPAddressAllow"), c.allow)
		if SystemdFilters(in.Instance) != (c.deny != nil) {
			t.Errorf("%s: SystemdFilters says %v", c.name, SystemdFilters(in.Instance))
		}

		// A changed policy is no other process.
		before := Identity(text)
		in.Instance.Network.Allow = nil
		if text, _ = Service(in); Identity(text) != before {
			t.Errorf("%s: the identity of the unit depends on its allowlist", c.name)
		}
		in.Instance.Directory = "/elsewhere"
		if text, _ = Service(in); Identity(text) == before {
			t.Errorf("%s: the identity of the unit does not depend on its directory", c.name)
		}
	}
}

// Where port 53 is closed, what resolves over a Unix socket is not there either.
func TestNoResolver(t *testing.T) {
	for _, dns := range []bool{true, false} {
		in, _ := given("p", "v")
		in.Instance.Network = instance.Network{Enable: true, DNS: dns}
		text, err := Service(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{in.Host.ResolvDir, "/run/nscd"} {
			if strings.Contains(text, path) != dns {
				t.Errorf("dns %v: %s", dns, text)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Input)
		want   string
	}{
		{"newline in a path", func(in *Input) { in.Instance.Directory = "/a\nUser=root" }, "Description="},
		{"carriage return in a variable", func(in *Input) { in.Instance.Environment[0].Value = "a\rb" }, "Environment="},
		{"NUL in an argument", func(in *Input) { in.Instance.ExtraArgs[0] = "a\x00" }, "ExecStart="},
		{"escape in a group", func(in *Input) { in.Instance.ExtraGroups[0] = "a\x1b" }, "SupplementaryGroups="},
		{"next line, U+0085", func(in *Input) { in.Instance.Sandbox.InaccessiblePaths[0].Path = "/a\u0085" }, "InaccessiblePaths="},
		{"no UTF-8: systemd drops the line", func(in *Input) { in.Instance.Sandbox.InaccessiblePaths[0].Path = "/\xff" }, "InaccessiblePaths="},
		{"noncharacter: systemd drops the line", func(in *Input) { in.Instance.Sandbox.ReadOnlyPaths[0].Path = "/\ufffe" }, "BindReadOnlyPaths="},
		{"backslash at the end of a line", func(in *Input) { in.Instance.Directory = `/a\` }, "ends with a backslash"},
		{"raw directive", func(in *Input) {
			in.Instance.Unit = []instance.Directive{{Section: "Service", Key: "Nice", Value: "1\nUser=root"}}
		}, "Nice="},
		{"opencoded with a backslash", func(in *Input) { in.Host.Opencoded = `/a\b` }, `cannot run /a\b`},
	} {
		in, _ := given("p", "v")
		c.change(&in)
		if _, err := Service(in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error about %s", c.name, err, c.want)
		}
	}
}

func TestOperatorsDirectivesComeLast(t *testing.T) {
	in, _ := given("p", "v")
	in.Instance.Unit = []instance.Directive{
		{Section: "Unit", Key: "StartLimitBurst", Value: "3"},
		{Section: "Service", Key: "Nice", Value: "5"},
		{Section: "Service", Key: "UMask", Value: "0077"},
	}
	text, err := Service(in)
	if err != nil {
		t.Fatal(err)
	}
	u := parseUnit(t, text)
	same(t, "UMask", u.all("UMask"), []string{"0002", "0077"})
	same(t, "StartLimitBurst", u.all("StartLimitBurst"), []string{"10", "3"})
	for _, section := range []string{"Unit", "Service"} {
		var keys []string
		for _, d := range u.directives {
			if d.section == section {
				keys = append(keys, d.key)
			}
		}
		want := map[string]string{"Unit": "StartLimitBurst", "Service": "UMask"}[section]
		if last := keys[len(keys)-1]; last != want {
			t.Errorf("[%s] ends with %s, want %s", section, last, want)
		}
	}
}

func TestHooksRunAroundTheManagedStep(t *testing.T) {
	in, _ := given("p", "v")
	in.Instance.Hooks = instance.Hooks{PreInit: "one", PostInit: "two"}
	text, err := Setup(in)
	if err != nil {
		t.Fatal(err)
	}
	var scripts []string
	for _, c := range read(parseUnit(t, text), "ExecStart", single(readCommand)) {
		scripts = append(scripts, c.argv[len(c.argv)-1])
	}
	same(t, "ExecStart", scripts, []string{setupDir + "/pre-init.sh", setupDir + "/managed.sh", setupDir + "/post-init.sh"})
	if s := Scripts(in.Instance); s[PreInit] != "one" || s[PostInit] != "two" || s[Managed] != ManagedScript {
		t.Errorf("Scripts gives %v", s)
	}
}

func TestRestartDelayNeedsItsSystemd(t *testing.T) {
	for version, want := range map[int]int{0: 0, 252: 0, 253: 0, 254: 1, 257: 1} {
		in, _ := given("p", "v")
		in.Host.SystemdVersion = version
		text, err := Service(in)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(parseUnit(t, text).all("RestartSteps")); n != want {
			t.Errorf("systemd %d: %d times RestartSteps=", version, n)
		}
	}
}
