package faults

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// badFile is where the broken inventories are. It is outside of what a snapshot
// covers, because writing it is the test's doing.
const badFile = "/srv/inventory/instances.toml"

// badInput: each of these is refused as a whole, with its place and what to do,
// and nothing of the host is touched, be it empty or at work.
func badInput(t *testing.T) {
	operator.Sh(t, badWorld)
	t.Run("empty host", refuseAll)
	operator.Apply(t, twoInstances)
	t.Run("two running instances", refuseAll)
	operator.NothingToDo(t)
}

// badWorld is what the table below refers to. It is there before the first
// snapshot.
const badWorld = `
mkdir -p /run/opencoded /srv/secrets /srv/inventory
echo TOKEN=x > /srv/secrets/open.env; chmod 666 /srv/secrets/open.env
echo HOME=/root > /srv/secrets/owned.env; chmod 600 /srv/secrets/owned.env
useradd -m -s /bin/bash carol
groupadd -g 70000 occupied
echo '[Service]' > /etc/systemd/system/opencode-taken.service
`

// broken is an inventory with one mistake. What is wrong stands after the
// mark; where it concerns the file as a whole there is none.
type broken struct {
	name      string
	inventory string // appended to two good instances
	says      string
	remedy    string
	arrange   string // shell commands, undone by restore
	restore   string
}

const mark = "«"

var brokenInventories = []broken{
	{name: "invalid TOML", inventory: "[instances.gamma«\n",
		says: "not valid TOML", remedy: "expected '.' or ']'"},
	{name: "unknown key", inventory: gamma(`«directroy = "/srv/x"`),
		says: `unknown key "directroy" in instances.gamma`, remedy: `did you mean "directory"?`},
	{name: "no directory", inventory: "[instances.«gamma]\nlisten.port = 8703\n",
		says: "instances.gamma has no directory", remedy: `add directory = "/path/of/the/project"`},
	{name: "duplicate port", inventory: "[instances.gamma]\ndirectory = \"/srv/gamma\"\nlisten.port = «8701\n",
		says: "8701 is also the port of instances.alpha", remedy: "give each instance a port of its own"},
	{name: "relative path", inventory: gamma(`state_dir = «"srv/state"`),
		says: `"srv/state" is not an absolute path`, remedy: "write the whole path, beginning with /"},
	{name: "overlapping state directory", inventory: gamma(`state_dir = «"/var/lib/opencode/instance-state/alpha/x"`),
		says: "overlaps /var/lib/opencode/instance-state/alpha of instances.alpha", remedy: "give each instance a state directory of its own"},
	{name: "missing binary", inventory: gamma(`opencode = «"/usr/local/bin/absent"`),
		says: "/usr/local/bin/absent: no such file", remedy: "install opencode, or set host.opencode to where it is"},
	{name: "missing environment file", inventory: gamma(`environment_file = [«"/srv/secrets/absent.env"]`),
		says: "/srv/secrets/absent.env does not exist", remedy: `create it, or mark it as optional with a leading "-"`},
	{name: "unreadable environment file", inventory: gamma(`environment_file = [«"/srv/secrets"]`),
		says: "cannot read it", remedy: "make it a regular file that root can read"},
	{name: "environment file that others can write", inventory: gamma(`environment_file = [«"/srv/secrets/open.env"]`),
		says: "cannot trust environment file /srv/secrets/open.env: /srv/secrets/open.env can be written by others (0666)", remedy: "chmod go-w /srv/secrets/open.env"},
	{name: "environment file with a variable of opencoded's", inventory: gamma(`environment_file = [«"/srv/secrets/owned.env"]`),
		says: "/srv/secrets/owned.env sets HOME, which opencoded owns", remedy: "set state_dir"},
	{name: "bad CIDR", inventory: gamma(`network_isolation = { enable = true, outbound_allow_cidrs = ["192.0.2.0/24", «"10.0.0.0/33"] }`),
		says: `"10.0.0.0/33" is not a network`, remedy: "use a network such as"},
	{name: "user of another instance", inventory: gamma(`user = «"opencode-alpha"`),
		says: `"opencode-alpha" is also the user of instances.alpha`, remedy: "give each instance an account of its own"},
	{name: "name that collides", inventory: "[instances.«alpha-setup]\ndirectory = \"/srv/gamma\"\nlisten.port = 8703\n",
		says: "opencode-alpha-setup.service would collide with the setup unit", remedy: "choose another ending"},
	{name: "newline in a value", inventory: gamma(`environment = { A = «"a\nExecStart=/bin/sh" }`),
		says: `contains a control character ("\n")`, remedy: "write it on one line"},
	{name: "date in a configuration", inventory: gamma(`config = { username = «2026-01-01 }`),
		says: "JSON has no dates and times", remedy: "write it as a string, in quotes"},
	{name: "missing configuration file", inventory: gamma(`config_file = «"/srv/absent.json"`),
		says: "cannot read it", remedy: "create it, or leave config_file out"},
	{name: "missing group", inventory: gamma(`extra_groups = [«"absent"]`),
		says: `there is no group "absent"`, remedy: "groupadd"},
	{name: "user who can log in", inventory: gamma(`user = «"carol"`),
		says: `"carol" can log in (its shell is /bin/bash)`, remedy: "leave user out"},
	{name: "no id left", inventory: "[host]\nuid_range = [70000, 70000]\n[instances.«gamma]\ndirectory = \"/srv/gamma\"\nlisten.port = 8703\n",
		says: `no free id for "opencode-gamma" between 70000 and 70000`, remedy: "set host.uid_range to a free range"},
	{name: "somebody else's unit in the way", inventory: "[instances.«taken]\ndirectory = \"/srv/gamma\"\nlisten.port = 8703\n",
		says: "/etc/systemd/system/opencode-taken.service exists and is not opencoded's", remedy: "move it away"},
	{name: "inventory that others can write", inventory: gamma(""),
		says: "cannot trust the inventory: " + badFile + " can be written by others (0666)", remedy: "chmod go-w " + badFile,
		arrange: "chmod 666 " + badFile},
	{name: "directory that others can write", inventory: gamma(""),
		says: "cannot trust the inventory: /srv/inventory can be written by others (0777)", remedy: "chmod go-w /srv/inventory",
		arrange: "chmod 777 /srv/inventory", restore: "chmod 755 /srv/inventory"},
	{name: "inventory of somebody else", inventory: gamma(""),
		says: "cannot trust the inventory: " + badFile + " belongs to uid 65534, not to root", remedy: "chown root " + badFile,
		arrange: "chown nobody " + badFile, restore: "chown root " + badFile},
}

// gamma is a third instance with a line of its own.
func gamma(line string) string {
	return "[instances.gamma]\ndirectory = \"/srv/gamma\"\nlisten.port = 8703\n" + line + "\n"
}

func refuseAll(t *testing.T) {
	for _, b := range brokenInventories {
		t.Run(b.name, b.refused)
	}
}

func (b broken) refused(t *testing.T) {
	text := twoInstances + b.inventory
	operator.Write(t, badFile, strings.Replace(text, mark, "", 1), 0o644)
	if b.arrange != "" {
		operator.Sh(t, b.arrange)
	}
	if b.restore != "" {
		defer operator.Sh(t, b.restore)
	}
	before := snapshot(t)
	for _, command := range []string{"apply", "plan"} {
		r := operator.Command(t, "opencoded", command, badFile)
		operator.Same(t, "exit code of "+command, r.Code, 1)
		operator.Same(t, "output of "+command, r.Stdout, "")
		operator.Contains(t, command, r.Stderr, "nothing was changed")
		finding := lineWith(r.Stderr, b.says)
		if finding == "" {
			t.Fatalf("%s does not say %q:\n%s", command, b.says, r.Stderr)
		}
		operator.Contains(t, "the finding", finding, b.remedy)
		operator.Contains(t, "the finding", finding, place(text)+": ")
	}
	unchanged(t, before)
	if _, err := os.Stat("/srv/gamma"); err == nil {
		t.Error("/srv/gamma was made")
	}
}

// place is FILE:LINE:COLUMN of the mark, or FILE alone.
func place(text string) string {
	before, _, marked := strings.Cut(text, mark)
	if !marked {
		return badFile
	}
	line := strings.Count(before, "\n") + 1
	column := len(before) - strings.LastIndex(before, "\n")
	return fmt.Sprintf("%s:%d:%d", badFile, line, column)
}

func lineWith(text, part string) string {
	for l := range strings.Lines(text) {
		if strings.Contains(l, part) {
			return l
		}
	}
	return ""
}
