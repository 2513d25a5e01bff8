package scenario

import (
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// credentials: a secret that systemd hands over is there for the instance alone,
// and stands in no environment, unit, argument or listing.
func credentials(t *testing.T) {
	operator.Write(t, "/etc/secrets/token", "planted-token", 0o600)
	operator.Sh(t, "printf planted-key | systemd-creds encrypt --name=key - /etc/secrets/key.cred")
	operator.Write(t, "/etc/secrets/alpha.env", "PLANTED=planted-variable\n", 0o600)
	inventory := twoInstances + `
[instances.gamma]
directory = "/srv/gamma"
listen.port = 8703
environment_file = "/etc/secrets/alpha.env"
credentials = { token = "/etc/secrets/token" }
encrypted_credentials = { key = "/etc/secrets/key.cred" }
hooks.pre_init = 'cat "$CREDENTIALS_DIRECTORY/token" > ~/seen-by-hook'
`
	operator.Write(t, operator.Inventory, inventory, 0o644)
	said := operator.Must(t, "opencoded", "plan") + operator.Must(t, "opencoded", "plan", "--json")
	r := operator.Apply(t, inventory)
	gamma, beta := enter(t, "gamma"), enter(t, "beta")
	operator.Same(t, "credential", gamma.must(t, `cat "$CREDENTIALS_DIRECTORY/token"`), "planted-token")
	operator.Same(t, "encrypted credential", gamma.must(t, `cat "$CREDENTIALS_DIRECTORY/key"`), "planted-key")
	operator.Same(t, "credential in a hook", gamma.must(t, "cat ~/seen-by-hook"), "planted-token")
	operator.Same(t, "variable", gamma.must(t, "echo $PLANTED"), "planted-variable")
	gamma.refused(t, "cat /etc/secrets/token /etc/secrets/alpha.env", "Permission denied")
	beta.refused(t, "cat /run/credentials/*/token", "No such file or directory")
	beta.refused(t, "cat /etc/secrets/token", "Permission denied")
	operator.NothingToDo(t)

	said += r.Stdout + r.Stderr
	for _, c := range []string{
		"opencoded status", "opencoded status --json", "opencoded validate",
		"journalctl --no-pager -o verbose", "systemctl show 'opencode-*'", "cat /etc/systemd/system/opencode-*",
		"cat /proc/*/cmdline | tr '\\0' ' '", "runuser -u nobody -- sh -c 'cat /proc/*/environ 2>/dev/null; cat /run/credentials/*/* 2>/dev/null; true'",
	} {
		said += operator.Command(t, "sh", "-c", c).Stdout
	}
	for _, secret := range []string{"planted-token", "planted-key", "planted-variable", password(t, "gamma"), password(t, "beta")} {
		operator.Lacks(t, "what was said", said, secret)
	}

	// A changed secret is another process.
	before := operator.PID(t, "gamma")
	operator.Write(t, "/etc/secrets/token", "replaced", 0o600)
	operator.Contains(t, "plan", operator.Must(t, "opencoded", "plan"), "credential changed")
	operator.Must(t, "opencoded", "apply")
	if operator.PID(t, "gamma") == before {
		t.Error("gamma still runs with the old credential")
	}
	operator.Same(t, "replaced credential", enter(t, "gamma").must(t, `cat "$CREDENTIALS_DIRECTORY/token"`), "replaced")
}
