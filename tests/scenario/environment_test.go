package scenario

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// environment: variables, environment files (the file wins), the configuration
// in its place, and secrets that stay secret.
func environment(t *testing.T) {
	operator.Write(t, "/run/secrets/alpha.env", "SHARED=from the file\nSECRET='planted secret'\n", 0o600)
	inventory := strings.Replace(twoInstances, `directory = "/srv/alpha"`, `directory = "/srv/alpha"
environment = { SHARED = "from the inventory", PLAIN = "100% \"quoted\" $HOME \\ back" }
environment_file = ["/run/secrets/alpha.env", "-/run/secrets/absent.env"]
path = ["/opt/tools/bin"]
model = "anthropic/claude-sonnet-4-5"
config = { share = "disabled", username = "someone", permission = { "*" = "ask", bash = "allow" } }`, 1)
	operator.Apply(t, inventory)
	a := enter(t, "alpha")
	operator.Same(t, "a variable of both", a.must(t, `printf %s "$SHARED"`), "from the file")
	operator.Same(t, "a secret", a.must(t, `printf %s "$SECRET"`), "planted secret")
	operator.Same(t, "a variable with everything in it", a.must(t, `printf %s "$PLAIN"`), `100% "quoted" $HOME \ back`)
	operator.Same(t, "HOME", a.must(t, `printf %s "$HOME"`), "/var/lib/opencode/instance-state/alpha")
	operator.Same(t, "first of PATH", a.must(t, `printf %s "${PATH%%:*}"`), "/opt/tools/bin")
	a.refused(t, "cat /run/secrets/alpha.env", "No such file or directory")
	inPlace(t, a)
	nothingSecretShown(t)
	restartNeeded(t, inventory)
}

// inPlace: opencode has read the generated configuration.
func inPlace(t *testing.T, a *agent) {
	const generated = "/var/lib/opencoded/instances/alpha/config/opencode.json"
	link := "/var/lib/opencode/instance-state/alpha/.config/opencode/opencode.json"
	operator.Same(t, "the link in HOME", operator.Must(t, "readlink", link), generated)
	operator.Same(t, "what the account reads there", operator.Must(t, "runuser", "-u", "opencode-alpha", "--", "cat", link)+"\n", operator.Read(t, generated))
	operator.Same(t, "what the instance reads", a.must(t, "cat ~/.config/opencode/opencode.json")+"\n", operator.Read(t, generated))
	operator.Contains(t, "the file", operator.Read(t, generated), `"permission": {"*":"ask","bash":"allow"}`)
	var config struct {
		Model, Share, Username string
		Permission             map[string]string
	}
	a.call(t, "GET", "/config", "", &config)
	operator.Same(t, "model", config.Model, "anthropic/claude-sonnet-4-5")
	operator.Same(t, "share", config.Share, "disabled")
	operator.Same(t, "username", config.Username, "someone")
	operator.Same(t, "permission of bash", config.Permission["bash"], "allow")
}

// nothingSecretShown: neither a planted secret nor the server's password is in
// anything that is printed, written for others to read, or visible in ps.
func nothingSecretShown(t *testing.T) {
	password := password(t, "alpha")
	if len(password) < 32 {
		t.Fatalf("the generated password is %q", password)
	}
	everything := operator.Must(t, "opencoded", "plan", "--json") + operator.Must(t, "opencoded", "plan") + operator.Must(t, "opencoded", "status", "--json") +
		operator.Sh(t, `ps axww -o args; systemctl show opencode-alpha opencode-alpha-setup; journalctl --no-pager -q;
		systemctl cat 'opencode-*'; cat /var/lib/opencoded/egress.json; runuser -u nobody -- sh -c 'cat -s $(find / -xdev -name "opencode-*" -type f 2>/dev/null) 2>/dev/null || true'`)
	operator.Lacks(t, "what others can see", everything, password)
	operator.Lacks(t, "what others can see", everything, "planted secret")
}

// restartNeeded: a changed environment file is seen as needing a restart, and so
// are a changed configuration and a changed password, each by its name.
func restartNeeded(t *testing.T, inventory string) {
	alpha, beta := operator.PID(t, "alpha"), operator.PID(t, "beta")
	operator.Write(t, "/run/secrets/alpha.env", "SHARED=changed\n", 0o600)
	r := operator.Command(t, "opencoded", "plan", "--exit-code")
	operator.Same(t, "exit code of plan --exit-code", r.Code, 3)
	operator.Contains(t, "plan", r.Stdout, "! alpha: restart (environment file changed)")
	operator.Same(t, "pid of alpha after plan", operator.PID(t, "alpha"), alpha)
	operator.Must(t, "opencoded", "apply")
	if operator.PID(t, "alpha") == alpha {
		t.Error("alpha still runs with the old environment")
	}
	operator.Same(t, "the changed variable", enter(t, "alpha").must(t, "printf %s $SHARED"), "changed")

	operator.Write(t, operator.Inventory, strings.Replace(inventory, `share = "disabled"`, `share = "manual"`, 1), 0o644)
	plan := operator.Must(t, "opencoded", "plan")
	operator.Contains(t, "plan", plan, "! alpha: restart (configuration changed)")
	operator.Contains(t, "plan", plan, `-  "share": "disabled"`)
	operator.Contains(t, "plan", plan, `+  "share": "manual"`)
	operator.Must(t, "opencoded", "apply")

	// A password of the operator's own wins and is used by the probes.
	operator.Write(t, "/run/secrets/alpha.env", "OPENCODE_SERVER_PASSWORD=chosen-by-the-operator\n", 0o600)
	operator.Must(t, "opencoded", "apply")
	operator.Same(t, "password", password(t, "alpha"), "chosen-by-the-operator")
	operator.Same(t, "alpha", operator.Status(t, "alpha").State, "healthy")
	operator.Same(t, "pid of beta after all of it", operator.PID(t, "beta"), beta)

	// JSON of a plan is complete enough to act on.
	var out struct{ Converged bool }
	if err := json.Unmarshal([]byte(operator.Must(t, "opencoded", "plan", "--json")), &out); err != nil || !out.Converged {
		t.Errorf("plan --json: %v, converged %v", err, out.Converged)
	}
}
