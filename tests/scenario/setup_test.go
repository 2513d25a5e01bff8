package scenario

import (
	"os"
	"strings"
	"testing"
)

// setupIdempotence: applying, restarting and setting up again changes nothing
// that exists, neither the operator's nor the agent's.
func setupIdempotence(t *testing.T) {
	sh(t, "useradd -m alice && mkdir -p /home/alice/project && echo hers > /home/alice/project/file && chown -R alice: /home/alice/project")
	inventory := `
version = 1
[instances.alpha]
directory = "/home/alice/project"
listen.port = 8701
[instances.beta]
directory = "/srv/made"
listen.port = 8702
`
	r := apply(t, inventory)
	contains(t, "apply", r.stderr, "instances.toml:4:13: warning: instances.alpha.directory: /home/alice/project belongs to alice and cannot be written by opencode-alpha (run: setfacl -R -m u:opencode-alpha:rwX /home/alice/project && setfacl -R -d -m u:opencode-alpha:rwX,u:alice:rwX /home/alice/project)")
	before := snapshot(t)
	same(t, "owner of what existed", must(t, "stat", "-c", "%U %a", "/home/alice/project"), "alice 755")
	same(t, "owner of what was made", must(t, "stat", "-c", "%U:%G %a", "/srv/made"), "opencode-beta:opencode-beta 770")
	same(t, "state directory", must(t, "stat", "-c", "%U:%G %a", "/var/lib/opencode/instance-state/beta"), "opencode-beta:opencode-beta 700")
	same(t, "password file", must(t, "stat", "-c", "%U:%G %a", "/var/lib/opencoded/instances/beta/password.env"), "root:root 600")

	nothingToDo(t)
	same(t, "everything after a second apply", snapshot(t), before)

	b := enter(t, "beta")
	b.must(t, "git config --global user.name Mine; echo x > ~/mine")
	secret := read(t, "/var/lib/opencoded/instances/beta/password.env")
	for range 3 {
		must(t, "systemctl", "restart", "opencode-beta")
	}
	eventually(t, "beta is healthy", func() bool { return status(t, "beta").State == "healthy" })
	b = enter(t, "beta")
	same(t, "the agent's own setting", b.must(t, "git config --global user.name"), "Mine")
	same(t, "safe directories", b.must(t, "git config --global --get-all safe.directory"), "/srv/made")
	same(t, "password", read(t, "/var/lib/opencoded/instances/beta/password.env"), secret)
	nothingToDo(t)
	repaired(t)
}

// repaired: what somebody changed on the host is put back, without a restart
// unless the server itself is concerned.
func repaired(t *testing.T) {
	beta := pid(t, "beta")
	sh(t, `
chmod 755 /var/lib/opencode/instance-state/beta
rm /etc/sysusers.d/opencode-beta.conf
rm /var/lib/opencode/instance-state/beta/.config/opencode/opencode.json
systemctl disable -q opencode-beta
nft delete table inet opencoded-guard`)
	drift := strings.Join(status(t, "beta").Drift, "\n")
	contains(t, "drift", drift, "change directory /var/lib/opencode/instance-state/beta")
	contains(t, "drift", drift, "create file /etc/sysusers.d/opencode-beta.conf")
	contains(t, "drift", drift, "enable unit opencode-beta.service")
	must(t, "opencoded", "apply")
	nothingToDo(t)
	same(t, "pid of beta after a repair", pid(t, "beta"), beta)
	must(t, "nft", "list", "table", "inet", "opencoded-guard")
	if _, err := os.Stat("/etc/sysusers.d/opencode-beta.conf"); err != nil {
		t.Error(err)
	}
}

// snapshot lists everything that opencoded manages, with owner, mode and
// checksum.
func snapshot(t *testing.T) string {
	t.Helper()
	return sh(t, `
find /var/lib/opencoded /etc/sysusers.d /etc/systemd/system -name 'opencode*' -printf '%p %U %G %m %l\n' | sort
find /var/lib/opencoded /etc/sysusers.d -type f -exec sha256sum {} + | sort
find /etc/systemd/system -name 'opencode-*' -type f -exec sha256sum {} + | sort
getent passwd | grep opencode
systemctl show -P MainPID -P InvocationID opencode-alpha opencode-beta`)
}

// hookOrdering: pre_init, the managed steps and post_init run in this order, as
// the instance's user in its sandbox, before the server, and again whenever the
// operator has it restarted.
func hookOrdering(t *testing.T) {
	inventory := `
version = 1
[instances.alpha]
directory = "/srv/alpha"
listen.port = 8701
environment = { FROM = "the environment" }
[instances.alpha.hooks]
pre_init = '''
echo "pre $(id -un) $PWD $FROM" >> ~/order
test ! -e ~/.gitconfig && echo "before the managed steps" >> ~/order || true
'''
post_init = '''
git config --global user.name >> ~/order
ls /etc/opencode/instances.toml /srv/secret >> ~/order 2>&1 || true
touch /usr/x 2>> ~/order || true
echo post >> ~/order
'''
`
	write(t, "/srv/secret", "x", 0o644)
	apply(t, inventory)
	want := `pre opencode-alpha /srv/alpha the environment
before the managed steps
opencode
ls: cannot access '/etc/opencode/instances.toml': No such file or directory
ls: cannot access '/srv/secret': No such file or directory
touch: cannot touch '/usr/x': Read-only file system
post
`
	order := "/var/lib/opencode/instance-state/alpha/order"
	same(t, "what the hooks did", read(t, order), want)
	setup := must(t, "systemctl", "show", "-P", "InactiveExitTimestampMonotonic", "opencode-alpha-setup")
	service := must(t, "systemctl", "show", "-P", "InactiveExitTimestampMonotonic", "opencode-alpha")
	if len(setup) > len(service) || len(setup) == len(service) && setup >= service {
		t.Errorf("the server started at %s, its set-up at %s", service, setup)
	}
	nothingToDo(t)
	same(t, "what the hooks did after a second apply", read(t, order), want)

	// A changed hook restarts its instance and says why.
	write(t, inventoryPath, strings.Replace(inventory, "echo post", "echo changed", 1), 0o644)
	contains(t, "plan", must(t, "opencoded", "plan"), "! alpha: restart (set-up changed)")
	must(t, "opencoded", "apply")
	contains(t, "what the hooks did", read(t, order), "changed\n")
	same(t, "runs of the first hook", strings.Count(read(t, order), "pre opencode-alpha"), 2)
	nothingToDo(t)
}

// hookFailure: a failing hook keeps its instance from starting and no other.
func hookFailure(t *testing.T) {
	inventory := twoInstances + `
[instances.alpha.hooks]
pre_init = "echo about to fail; exit 7"
`
	write(t, inventoryPath, inventory, 0o644)
	r := command(t, "opencoded", "apply")
	same(t, "exit code of apply", r.code, 4)
	contains(t, "apply", r.stderr, "alpha: cannot start opencode-alpha.service: its set-up failed")
	contains(t, "apply", r.stderr, "about to fail")
	contains(t, "apply", r.stderr, "status=7")
	contains(t, "apply", r.stdout, "beta: healthy")
	same(t, "beta", status(t, "beta").State, "healthy")
	same(t, "alpha", must(t, "systemctl", "show", "-P", "MainPID", "opencode-alpha"), "0")

	// Mended, it comes up, and beta has not moved.
	beta := pid(t, "beta")
	apply(t, twoInstances)
	same(t, "alpha", status(t, "alpha").State, "healthy")
	same(t, "pid of beta", pid(t, "beta"), beta)
}
