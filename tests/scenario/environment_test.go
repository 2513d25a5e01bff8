package scenario

import (
	"encoding/json"
	"strings"
	"testing"
)

// environment: variables, environment files (the file wins), the configuration
// in its place, and secrets that stay secret.
func environment(t *testing.T) {
	write(t, "/run/secrets/alpha.env", "SHARED=from the file\nSECRET='planted secret'\n", 0o600)
	inventory := strings.Replace(twoInstances, `directory = "/srv/alpha"`, `directory = "/srv/alpha"
environment = { SHARED = "from the inventory", PLAIN = "100% \"quoted\" $HOME \\ back" }
environment_file = ["/run/secrets/alpha.env", "-/run/secrets/absent.env"]
path = ["/opt/tools/bin"]
model = "anthropic/claude-sonnet-4-5"
config = { share = "disabled", username = "someone", permission = { "*" = "ask", bash = "allow" } }`, 1)
	apply(t, inventory)
	a := enter(t, "alpha")
	same(t, "a variable of both", a.must(t, `printf %s "$SHARED"`), "from the file")
	same(t, "a secret", a.must(t, `printf %s "$SECRET"`), "planted secret")
	same(t, "a variable with everything in it", a.must(t, `printf %s "$PLAIN"`), `100% "quoted" $HOME \ back`)
	same(t, "HOME", a.must(t, `printf %s "$HOME"`), "/var/lib/opencode/instance-state/alpha")
	same(t, "first of PATH", a.must(t, `printf %s "${PATH%%:*}"`), "/opt/tools/bin")
	a.refused(t, "cat /run/secrets/alpha.env", "No such file or directory")
	inPlace(t, a)
	nothingSecretShown(t)
	restartNeeded(t, inventory)
}

// inPlace: opencode has read the generated configuration.
func inPlace(t *testing.T, a *agent) {
	const generated = "/var/lib/opencoded/instances/alpha/config/opencode.json"
	link := "/var/lib/opencode/instance-state/alpha/.config/opencode/opencode.json"
	same(t, "the link in HOME", must(t, "readlink", link), generated)
	same(t, "what the account reads there", must(t, "runuser", "-u", "opencode-alpha", "--", "cat", link)+"\n", read(t, generated))
	same(t, "what the instance reads", a.must(t, "cat ~/.config/opencode/opencode.json")+"\n", read(t, generated))
	contains(t, "the file", read(t, generated), `"permission": {"*":"ask","bash":"allow"}`)
	var config struct {
		Model, Share, Username string
		Permission             map[string]string
	}
	a.call(t, "GET", "/config", "", &config)
	same(t, "model", config.Model, "anthropic/claude-sonnet-4-5")
	same(t, "share", config.Share, "disabled")
	same(t, "username", config.Username, "someone")
	same(t, "permission of bash", config.Permission["bash"], "allow")
}

// nothingSecretShown: neither a planted secret nor the server's password is in
// anything that is printed, written for others to read, or visible in ps.
func nothingSecretShown(t *testing.T) {
	password := password(t, "alpha")
	if len(password) < 32 {
		t.Fatalf("the generated password is %q", password)
	}
	everything := must(t, "opencoded", "plan", "--json") + must(t, "opencoded", "plan") + must(t, "opencoded", "status", "--json") +
		sh(t, `ps axww -o args; systemctl show opencode-alpha opencode-alpha-setup; journalctl --no-pager -q;
		cat /etc/systemd/system/opencode-*.service /var/lib/opencoded/egress.json; runuser -u nobody -- sh -c 'cat -s $(find / -xdev -name "opencode-*" -type f 2>/dev/null) 2>/dev/null || true'`)
	lacks(t, "what others can see", everything, password)
	lacks(t, "what others can see", everything, "planted secret")
}

// restartNeeded: a changed environment file is seen as needing a restart, and so
// are a changed configuration and a changed password, each by its name.
func restartNeeded(t *testing.T, inventory string) {
	alpha, beta := pid(t, "alpha"), pid(t, "beta")
	write(t, "/run/secrets/alpha.env", "SHARED=changed\n", 0o600)
	r := command(t, "opencoded", "plan", "--exit-code")
	same(t, "exit code of plan --exit-code", r.code, 3)
	contains(t, "plan", r.stdout, "! alpha: restart (environment file changed)")
	same(t, "pid of alpha after plan", pid(t, "alpha"), alpha)
	must(t, "opencoded", "apply")
	if pid(t, "alpha") == alpha {
		t.Error("alpha still runs with the old environment")
	}
	same(t, "the changed variable", enter(t, "alpha").must(t, "printf %s $SHARED"), "changed")

	write(t, inventoryPath, strings.Replace(inventory, `share = "disabled"`, `share = "manual"`, 1), 0o644)
	plan := must(t, "opencoded", "plan")
	contains(t, "plan", plan, "! alpha: restart (configuration changed)")
	contains(t, "plan", plan, `-  "share": "disabled"`)
	contains(t, "plan", plan, `+  "share": "manual"`)
	must(t, "opencoded", "apply")

	// A password of the operator's own wins and is used by the probes.
	write(t, "/run/secrets/alpha.env", "OPENCODE_SERVER_PASSWORD=chosen-by-the-operator\n", 0o600)
	must(t, "opencoded", "apply")
	same(t, "password", password(t, "alpha"), "chosen-by-the-operator")
	same(t, "alpha", status(t, "alpha").State, "healthy")
	same(t, "pid of beta after all of it", pid(t, "beta"), beta)

	// JSON of a plan is complete enough to act on.
	var out struct{ Converged bool }
	if err := json.Unmarshal([]byte(must(t, "opencoded", "plan", "--json")), &out); err != nil || !out.Converged {
		t.Errorf("plan --json: %v, converged %v", err, out.Converged)
	}
}
