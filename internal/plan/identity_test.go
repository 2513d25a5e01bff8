package plan

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/instance"
)

// TestIDs: every account of a plan has an id of its own that nobody on the host
// had, whatever names what.
func TestIDs(t *testing.T) {
	for _, c := range []struct {
		name, toml string
		want       []string // user uid group gid
	}{
		{"from the top, taken ones skipped, an existing account kept", `
[instances.a]
directory = "/srv/a"
[instances.ours]
directory = "/srv/ours"
listen.port = 2
[instances.z]
directory = "/srv/z"
listen.port = 3
`, []string{"opencode-a 998 opencode-a 998", "opencode-ours 997 opencode-ours 997", "opencode-z 996 opencode-z 996"}},
		{"two instances of one new group share it", `
[defaults]
group = "makers"
[instances.a]
directory = "/srv/a"
[instances.b]
directory = "/srv/b"
listen.port = 2
`, []string{"opencode-a 998 makers 995", "opencode-b 996 makers 995"}},
		{"the group of an instance that comes later", `
[instances.a]
directory = "/srv/a"
group = "opencode-b"
[instances.b]
directory = "/srv/b"
listen.port = 2
`, []string{"opencode-a 998 opencode-b 996", "opencode-b 996 opencode-b 996"}},
		{"a range of its own", `
[host]
uid_range = [70000, 70001]
[instances.a]
directory = "/srv/a"
[instances.b]
directory = "/srv/b"
listen.port = 2
`, []string{"opencode-a 70001 opencode-a 70001", "opencode-b 70000 opencode-b 70000"}},
		{"a named user, without a group", `
[instances.a]
directory = "/srv/a"
user = "agent"
[instances.b]
directory = "/srv/b"
listen.port = 2
user = "other"
`, []string{"agent 500  500", "other 998 other 998"}},
	} {
		inv := parse(t, "version = 1\n"+c.toml)
		facts := fixed(inv)
		var got []string
		for _, target := range desire(t, inv, facts).Targets {
			a := target.Account
			got = append(got, fmt.Sprint(a.User, " ", a.UID, " ", a.Group, " ", a.GID))
			if a.User == "agent" {
				continue // opencoded does not make it
			}
			// What the accounts look like once they exist.
			a.Home, a.Ours = target.Instance.StateDir, true
			facts.Accounts[a.User] = a
			facts.Groups[a.Group] = a.GID
			if _, ok := facts.Groups[a.User]; !ok {
				facts.Groups[a.User] = a.UID
			}
			facts.Taken[a.UID], facts.Taken[a.GID] = true, true
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n%s, want\n%s", c.name, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}

		// A second run keeps them and has nothing to create.
		for n, target := range desire(t, inv, facts).Targets {
			a := target.Account
			if again := fmt.Sprint(a.User, " ", a.UID, " ", a.Group, " ", a.GID); again != got[n] || target.NewAccount {
				t.Errorf("%s: the second run says %s (new: %v), the first said %s", c.name, again, target.NewAccount, got[n])
			}
		}
	}
}

func TestIDsRunOut(t *testing.T) {
	inv := parse(t, `version = 1
host.uid_range = [70000, 70001]
[instances.a]
directory = "/srv/a"
[instances.b]
directory = "/srv/b"
listen.port = 2
[instances.c]
directory = "/srv/c"
listen.port = 3
user = "third"
`)
	_, problems := Desire(inv, fixed(inv))
	errors := problems.Errors()
	want := `inventory.toml:11:8: no free id for "third" between 70000 and 70001 (set host.uid_range to a free range, such as [70000, 79999])`
	if len(errors) == 0 || errors[0].String() != want {
		t.Errorf("got\n%v, want\n%s", problems, want)
	}
}

// TestUnbindablePaths are refused where systemd would not bind them, each at its
// place.
func TestUnbindablePaths(t *testing.T) {
	inv := parse(t, `version = 1
[instances.a]
directory = "/srv/it's"
sandbox.read_only_paths = ["/srv/plain", '/srv/"quoted"']
sandbox.unix_sockets.allow = ["/run/a:b"]
sandbox.inaccessible_paths = ["/srv/it's/hidden"]
`)
	quotes := `inventory.toml:3:13: instances.a.directory: systemd V cannot bind a path with ' in it: /srv/it's (rename it)
inventory.toml:4:42: instances.a.sandbox.read_only_paths.1: systemd V cannot bind a path with " in it: /srv/"quoted" (rename it)`
	colon := `
inventory.toml:5:31: instances.a.sandbox.unix_sockets.allow.0: systemd V cannot bind a path with : in it: /run/a:b (rename it)`
	for version, want := range map[int]string{0: "", 252: "", 254: "", 255: quotes, 257: quotes, 258: quotes + colon, 262: quotes + colon} {
		facts := fixed(inv)
		facts.Sandbox.SystemdVersion = version
		_, problems := Desire(inv, facts)
		var got []string
		for _, p := range problems.Errors() {
			got = append(got, p.String())
		}
		want = strings.ReplaceAll(want, "systemd V", fmt.Sprint("systemd ", version))
		if strings.Join(got, "\n") != want {
			t.Errorf("systemd %d:\n%s\nwant\n%s", version, strings.Join(got, "\n"), want)
		}
	}
}

// TestForeignAccountNeedsItsGroup: opencoded has no fragment in which it could
// declare a group for an account that it did not make.
func TestForeignAccountNeedsItsGroup(t *testing.T) {
	inv := parse(t, `version = 1
[instances.a]
directory = "/srv/a"
user = "agent"
group = "makers"
`)
	_, problems := Desire(inv, fixed(inv))
	if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), `inventory.toml:5:9: instances.a.group: there is no group "makers"`) {
		t.Errorf("got %v", problems)
	}
}

// TestLostGroup: the own group of an account of opencoded's is made again.
func TestLostGroup(t *testing.T) {
	inv := parse(t, "version = 1\n[instances.ours]\ndirectory = \"/srv/ours\"\n")
	facts := fixed(inv)
	delete(facts.Groups, "opencode-ours")
	target := desire(t, inv, facts).Targets[0]
	if !target.NewAccount || target.Account.GID != 997 {
		t.Errorf("got %+v, new: %v", target.Account, target.NewAccount)
	}
}

// TestDesireIsDeterministic: the maps among its facts leave no trace, and neither
// does the order in which a file names things.
func TestDesireIsDeterministic(t *testing.T) {
	text := func(names ...string) *instance.Inventory {
		var b strings.Builder
		b.WriteString("version = 1\n[defaults]\nhooks = { pre_init = \"a\", post_init = \"b\" }\nnetwork_isolation.enable = true\n")
		for _, n := range names {
			fmt.Fprintf(&b, "[instances.%s]\ndirectory = \"/srv/%s\"\nlisten.port = %d\n", n, n, 8000+int(n[0]))
		}
		return parse(t, b.String())
	}
	inv := text("a", "b", "c", "d", "e", "f")
	first := rendered(desire(t, inv, fixed(inv)))
	for range 50 {
		if again := rendered(desire(t, inv, fixed(inv))); !reflect.DeepEqual(again, first) {
			t.Fatal("the same input gave another result")
		}
	}
	other := text("f", "d", "b", "e", "c", "a")
	if again := rendered(desire(t, other, fixed(other))); !reflect.DeepEqual(again, first) {
		t.Error("the result depends on the order of the file")
	}
}

// TestDesireChangesNothing: facts are read only.
func TestDesireChangesNothing(t *testing.T) {
	inv := parse(t, "version = 1\n[instances.a]\ndirectory = \"/srv/a\"\ngroup = \"makers\"\n")
	facts := fixed(inv)
	desire(t, inv, facts)
	if !reflect.DeepEqual(facts, fixed(inv)) {
		t.Error("Desire changed its facts")
	}
}
