package scenario

import (
	"os"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// setupIdempotence: applying, restarting and setting up again changes nothing
// that exists, neither the operator's nor the agent's.
func setupIdempotence(t *testing.T) {
	operator.Sh(t, "useradd -m alice && mkdir -p /home/alice/project && echo hers > /home/alice/project/file && chown -R alice: /home/alice/project")
	inventory := `
version = 1
[instances.alpha]
directory = "/home/alice/project"
listen.port = 8701
[instances.beta]
directory = "/srv/made"
listen.port = 8702
`
	r := operator.Apply(t, inventory)
	operator.Contains(t, "apply", r.Stderr, "instances.toml:4:13: warning: instances.alpha.directory: /home/alice/project belongs to alice and cannot be written by opencode-alpha (run: setfacl -R -m u:opencode-alpha:rwX /home/alice/project && setfacl -R -d -m u:opencode-alpha:rwX,u:alice:rwX /home/alice/project)")
	before := snapshot(t)
	operator.Same(t, "owner of what existed", operator.Must(t, "stat", "-c", "%U %a", "/home/alice/project"), "alice 755")
	operator.Same(t, "owner of what was made", operator.Must(t, "stat", "-c", "%U:%G %a", "/srv/made"), "opencode-beta:opencode-beta 770")
	operator.Same(t, "state directory", operator.Must(t, "stat", "-c", "%U:%G %a", "/var/lib/opencode/instance-state/beta"), "opencode-beta:opencode-beta 700")
	operator.Same(t, "password file", operator.Must(t, "stat", "-c", "%U:%G %a", "/var/lib/opencoded/instances/beta/password.env"), "root:root 600")

	operator.NothingToDo(t)
	operator.Same(t, "everything after a second apply", snapshot(t), before)

	b := enter(t, "beta")
	b.must(t, "git config --global user.name Mine; echo x > ~/mine")
	secret := operator.Read(t, "/var/lib/opencoded/instances/beta/password.env")
	for range 3 {
		operator.Must(t, "systemctl", "restart", "opencode-beta")
	}
	operator.Eventually(t, "beta is healthy", func() bool { return operator.Status(t, "beta").State == "healthy" })
	b = enter(t, "beta")
	operator.Same(t, "the agent's own setting", b.must(t, "git config --global user.name"), "Mine")
	operator.Same(t, "safe directories", b.must(t, "git config --global --get-all safe.directory"), "/srv/made")
	operator.Same(t, "password", operator.Read(t, "/var/lib/opencoded/instances/beta/password.env"), secret)
	operator.NothingToDo(t)
	repaired(t)
}

// repaired: what somebody changed on the host is put back, without a restart
// unless the server itself is concerned.
func repaired(t *testing.T) {
	beta := operator.PID(t, "beta")
	operator.Sh(t, `
chmod 755 /var/lib/opencode/instance-state/beta
rm /etc/sysusers.d/opencode-beta.conf
rm /var/lib/opencode/instance-state/beta/.config/opencode/opencode.json
systemctl disable -q opencode-beta
systemctl disable -q --runtime opencode-beta
nft delete table inet opencoded-guard`)
	drift := strings.Join(operator.Status(t, "beta").Drift, "\n")
	operator.Contains(t, "drift", drift, "change directory /var/lib/opencode/instance-state/beta")
	operator.Contains(t, "drift", drift, "create file /etc/sysusers.d/opencode-beta.conf")
	operator.Contains(t, "drift", drift, "enable unit opencode-beta.service")
	operator.Must(t, "opencoded", "apply")
	operator.NothingToDo(t)
	operator.Same(t, "pid of beta after a repair", operator.PID(t, "beta"), beta)
	operator.Must(t, "nft", "list", "table", "inet", "opencoded-guard")
	if _, err := os.Stat("/etc/sysusers.d/opencode-beta.conf"); err != nil {
		t.Error(err)
	}
}

// snapshot lists everything that opencoded manages, with owner, mode and
// checksum.
func snapshot(t *testing.T) string {
	t.Helper()
	return operator.Sh(t, `
find /var/lib/opencoded /etc/sysusers.d /etc/systemd/system /run/systemd/system -name 'opencode*' -printf '%p %U %G %m %l\n' | sort
find /var/lib/opencoded /etc/sysusers.d -type f -exec sha256sum {} + | sort
find /etc/systemd/system /run/systemd/system -name 'opencode-*' -type f -exec sha256sum {} + | sort
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
	operator.Write(t, "/srv/secret", "x", 0o644)
	operator.Apply(t, inventory)
	want := `pre opencode-alpha /srv/alpha the environment
before the managed steps
opencode
ls: cannot access '/etc/opencode/instances.toml': No such file or directory
ls: cannot access '/srv/secret': No such file or directory
touch: cannot touch '/usr/x': Read-only file system
post
`
	order := "/var/lib/opencode/instance-state/alpha/order"
	operator.Same(t, "what the hooks did", operator.Read(t, order), want)
	setup := operator.Must(t, "systemctl", "show", "-P", "InactiveExitTimestampMonotonic", "opencode-alpha-setup")
	service := operator.Must(t, "systemctl", "show", "-P", "InactiveExitTimestampMonotonic", "opencode-alpha")
	if len(setup) > len(service) || len(setup) == len(service) && setup >= service {
		t.Errorf("the server started at %s, its set-up at %s", service, setup)
	}
	operator.NothingToDo(t)
	operator.Same(t, "what the hooks did after a second apply", operator.Read(t, order), want)

	// A changed hook restarts its instance and says why.
	operator.Write(t, operator.Inventory, strings.Replace(inventory, "echo post", "echo changed", 1), 0o644)
	operator.Contains(t, "plan", operator.Must(t, "opencoded", "plan"), "! alpha: restart (set-up changed)")
	operator.Must(t, "opencoded", "apply")
	operator.Contains(t, "what the hooks did", operator.Read(t, order), "changed\n")
	operator.Same(t, "runs of the first hook", strings.Count(operator.Read(t, order), "pre opencode-alpha"), 2)
	operator.NothingToDo(t)
}

// hookFailure: a failing hook keeps its instance from starting and no other.
func hookFailure(t *testing.T) {
	inventory := twoInstances + `
[instances.alpha.hooks]
pre_init = "echo about to fail; exit 7"
`
	operator.Write(t, operator.Inventory, inventory, 0o644)
	r := operator.Command(t, "opencoded", "apply")
	operator.Same(t, "exit code of apply", r.Code, 4)
	operator.Contains(t, "apply", r.Stderr, "alpha: cannot start opencode-alpha.service: its set-up failed")
	operator.Contains(t, "apply", r.Stderr, "about to fail")
	operator.Contains(t, "apply", r.Stderr, "status=7")
	operator.Contains(t, "apply", r.Stdout, "beta: healthy")
	operator.Same(t, "beta", operator.Status(t, "beta").State, "healthy")
	operator.Same(t, "alpha", operator.Must(t, "systemctl", "show", "-P", "MainPID", "opencode-alpha"), "0")

	// Mended, it comes up, and beta has not moved.
	beta := operator.PID(t, "beta")
	operator.Apply(t, twoInstances)
	operator.Same(t, "alpha", operator.Status(t, "alpha").State, "healthy")
	operator.Same(t, "pid of beta", operator.PID(t, "beta"), beta)
}
