package scenario

import (
	"os"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/sandbox"
	"github.com/opencoded/opencoded/tests/judge"
	"github.com/opencoded/opencoded/tests/operator"
)

// accounts: an account that was there before keeps what it has, groups are given
// to the service and to nobody else, and new accounts get an id of the range.
func accounts(t *testing.T) {
	operator.Sh(t, `
groupadd team && groupadd shared
useradd -r -M -g team -s /usr/sbin/nologin svc
install -d -o root -g shared -m 2770 /srv/common`)
	operator.Apply(t, `
version = 1
[host]
uid_range = [70000, 70009]
[instances.own]
directory = "/srv/own"
listen.port = 8701
[instances.given]
directory = "/srv/given"
listen.port = 8702
user = "svc"
extra_groups = ["shared"]
sandbox.read_write_paths = ["/srv/common"]
[instances.grouped]
directory = "/srv/grouped"
listen.port = 8703
group = "team"
`)
	operator.NothingToDo(t)
	own, given, grouped := enter(t, "own"), enter(t, "given"), enter(t, "grouped")
	operator.Same(t, "own", own.must(t, "id -un; id -gn; id -u | cut -c 1-3"), "opencode-own\nopencode-own\n700")
	// In its user namespace a further group has no name, and works all the same.
	operator.Same(t, "given", given.must(t, "id -un; id -gn; id -G | wc -w"), "svc\nteam\n2")
	operator.Same(t, "grouped", grouped.must(t, "id -un; id -gn"), "opencode-grouped\nteam")
	operator.Same(t, "members of shared", operator.Must(t, "getent", "group", "shared"), strings.TrimSpace(operator.Sh(t, "getent group shared | sed 's/:[^:]*$/:/'")))
	given.must(t, "echo 1 > /srv/common/file")
	operator.Same(t, "group of a file in a directory of the group", operator.Must(t, "stat", "-c", "%U %G %a", "/srv/common/file"), "svc shared 664")
	own.refused(t, "ls /srv/common", "No such file or directory")
	if _, err := os.Lstat("/etc/sysusers.d/opencode-given.conf"); err == nil {
		t.Error("an account that opencoded did not make has a fragment of opencoded's")
	}

	// Taking it out and purging it leaves the account to whom it belongs.
	operator.Apply(t, "version = 1\n")
	operator.Must(t, "opencoded", "purge", "--yes", "given")
	operator.Must(t, "id", "svc")
}

// unitDirectory: units move between the directories of systemd, and strange
// paths reach the server as they are, without a restart.
func unitDirectory(t *testing.T) {
	const strange = `/srv/odd "dir" with %h $HOME; and: colon\back`
	in := func(directory string) string {
		return `
version = 1
[host]
unit_dir = "/etc/systemd/system"
[instances.alpha]
directory = '` + directory + `'
listen.port = 8701
`
	}
	directory := strange
	host := sandbox.Host{SystemdVersion: judge.SystemdVersion(t)}
	if unfit := host.Unbindable(); unfit != "" {
		operator.Write(t, operator.Inventory, in(strange), 0o644)
		r := operator.Command(t, "opencoded", "apply")
		operator.Same(t, "exit code for what it cannot bind", r.Code, 1)
		operator.Contains(t, "apply", r.Stderr, "instances.toml:6:13: instances.alpha.directory: systemd")
		directory = strings.Map(func(r rune) rune {
			if strings.ContainsRune(unfit, r) {
				return -1
			}
			return r
		}, strange)
	}
	inventory := in(directory)
	operator.Apply(t, inventory)
	before := operator.PID(t, "alpha")
	operator.Same(t, "directory", enter(t, "alpha").must(t, "pwd"), directory)
	for _, move := range []struct{ from, to string }{{"etc", "run"}, {"run", "etc"}} {
		inventory = strings.Replace(inventory, `"/`+move.from+`/systemd`, `"/`+move.to+`/systemd`, 1)
		operator.Apply(t, inventory)
		operator.NothingToDo(t)
		operator.Same(t, "unit file", operator.Must(t, "systemctl", "show", "-P", "FragmentPath", "opencode-alpha"), "/"+move.to+"/systemd/system/opencode-alpha.service")
		operator.Same(t, "left behind in /"+move.from, operator.Sh(t, "find /"+move.from+"/systemd/system -name 'opencode*'"), "")
		operator.Same(t, "pid", operator.PID(t, "alpha"), before)
	}
}
