package scenario

import (
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

const layeredInventory = `
version = 1
[defaults]
config_layers = ["layers/team.toml"]
[instances.alpha]
directory = "/srv/alpha"
listen.port = 8701
config_layers = ["layers/mine.jsonc"]
agents = { reviewer = "agents/reviewer.md" }
skills = { deploy = "skills/deploy" }
commands = { ship = "commands/ship.md" }
config = { share = "disabled" }
[instances.beta]
directory = "/srv/beta"
listen.port = 8702
`

// layeredConfiguration: layers and the files that they name reach the running
// server, as its own, read-only, and no other instance's; what changes restarts
// what it concerns.
func layeredConfiguration(t *testing.T) {
	for path, text := range map[string]string{
		"layers/team.toml":       "username = \"team\"\ninstructions = [\"./rules.md\", \"docs/house.md\"]\n[permission.bash]\n\"*\" = \"ask\"\n\"git *\" = \"allow\"\n",
		"layers/rules.md":        "A rule.\n",
		"layers/mine.jsonc":      "{\n  // mine\n  \"permission\": {\"bash\": {\"git push *\": \"deny\"}},\n  \"agent\": {\"plan\": {\"prompt\": \"{file:./plan.md}\"}},\n}\n",
		"layers/plan.md":         "Plan, says the file.\n",
		"agents/reviewer.md":     "---\ndescription: Reviews\nmode: subagent\npermission:\n  edit: deny\n---\nReview carefully.\n",
		"commands/ship.md":       "---\ndescription: Ships\n---\nShip $ARGUMENTS.\n",
		"skills/deploy/SKILL.md": "---\nname: deploy\ndescription: Use when deploying.\n---\nRun the script.\n",
	} {
		operator.Write(t, "/etc/opencode/"+path, text, 0o644)
	}
	operator.Write(t, "/etc/opencode/skills/deploy/deploy.sh", "#!/bin/sh\necho deployed\n", 0o755)
	operator.Apply(t, layeredInventory)
	operator.NothingToDo(t)

	alpha, beta := enter(t, "alpha"), enter(t, "beta")
	var config struct {
		Username, Share string
		Instructions    []string
		Permission      struct{ Bash map[string]string }
		Agent           map[string]struct{ Prompt, Mode string }
	}
	alpha.call(t, "GET", "/config", "", &config)
	operator.Same(t, "username", config.Username, "team")
	operator.Same(t, "share", config.Share, "disabled")
	operator.Same(t, "bash rules", len(config.Permission.Bash), 3)
	operator.Same(t, "prompt of plan", config.Agent["plan"].Prompt, "Plan, says the file.")
	operator.Same(t, "prompt of reviewer", config.Agent["reviewer"].Prompt, "Review carefully.")
	operator.Same(t, "instructions", strings.Join(config.Instructions, " "),
		"/var/lib/opencode/instance-state/alpha/.config/opencode/files/team/rules.md /srv/alpha/docs/house.md /srv/alpha/AGENTS.md /srv/alpha/CLAUDE.md")
	var commands []struct{ Name, Template string }
	alpha.call(t, "GET", "/command", "", &commands)
	found := false
	for _, c := range commands {
		found = found || c.Name == "ship" && strings.Contains(c.Template, "Ship $ARGUMENTS.")
	}
	operator.Same(t, "the command ship is there", found, true)

	operator.Same(t, "a script of a skill", alpha.must(t, "~/.config/opencode/skills/deploy/deploy.sh"), "deployed")
	alpha.refused(t, "echo x >> ~/.config/opencode/skills/deploy/SKILL.md", "Permission denied")
	alpha.refused(t, "rm -r ~/.config/opencode/agents", "Read-only file system")
	beta.refused(t, "ls ~/.config/opencode/agents", "No such file or directory")
	operator.Same(t, "rules of beta", beta.must(t, "cat ~/.config/opencode/files/team/rules.md"), "A rule.")

	changedLayers(t)
	untrustedLayers(t)
	otherVersions(t)
}

// changedLayers: a layer of one instance restarts that one; an agent that is taken
// out of the inventory is gone from the host and from the server.
func changedLayers(t *testing.T) {
	before := operator.PID(t, "beta")
	operator.Write(t, "/etc/opencode/agents/reviewer.md", "---\ndescription: Reviews\n---\nReview twice.\n", 0o644)
	r := operator.Apply(t, strings.Replace(layeredInventory, `skills = { deploy = "skills/deploy" }`, "", 1))
	operator.Contains(t, "apply", r.Stdout, "configuration changed")
	operator.Same(t, "pid of beta", operator.PID(t, "beta"), before)
	alpha := enter(t, "alpha")
	operator.Contains(t, "agent", alpha.must(t, "cat ~/.config/opencode/agents/reviewer.md"), "Review twice.")
	alpha.refused(t, "ls ~/.config/opencode/skills/deploy", "No such file or directory")
	operator.Same(t, "what is left of the skill", operator.Sh(t, "ls -d /var/lib/opencoded/instances/alpha/config/skills 2>/dev/null || echo nothing"), "nothing")
	operator.NothingToDo(t)
}

// untrustedLayers: what others could write decides nothing, and nothing is
// touched; so with a file that opencode would look for in vain.
func untrustedLayers(t *testing.T) {
	operator.Sh(t, "chmod 666 /etc/opencode/layers/team.toml")
	r := operator.Command(t, "opencoded", "apply")
	operator.Same(t, "exit code with a layer that others can write", r.Code, 1)
	operator.Contains(t, "apply", r.Stderr, "/etc/opencode/layers/team.toml can be written by others")
	operator.Sh(t, "chmod 644 /etc/opencode/layers/team.toml")
	operator.Write(t, "/etc/opencode/layers/team.toml", "username = \"{file:/etc/nowhere}\"\n", 0o644)
	r = operator.Command(t, "opencoded", "apply")
	operator.Same(t, "exit code with a file that is not there", r.Code, 1)
	operator.Contains(t, "apply", r.Stderr, "/etc/opencode/layers/team.toml:1:12: instances.alpha: opencode refuses a configuration with {file:/etc/nowhere}, which does not exist")
	operator.Write(t, "/etc/opencode/layers/team.toml", "username = \"team\"\n", 0o644)
}

// otherVersions: a schema that was imported is the one that counts for an instance
// of that version.
func otherVersions(t *testing.T) {
	operator.Contains(t, "import", operator.Must(t, "opencoded", "config", "schema", "import", "--opencode", "/usr/local/bin/opencode"),
		"opencode 1.18.33: /var/lib/opencoded/schemas/1.18.33/config.schema.json")
	operator.Write(t, "/usr/local/bin/opencode-next", "#!/bin/sh\necho 1.19.2\n", 0o755)
	const next = `
version = 1
[instances.next]
directory = "/srv/next"
opencode = "/usr/local/bin/opencode-next"
config = { brandnew = true }
`
	operator.Write(t, "/etc/opencode/next.toml", next, 0o644)
	r := operator.Command(t, "opencoded", "plan", "/etc/opencode/next.toml")
	operator.Same(t, "exit code with a key that is not known", r.Code, 1)
	operator.Contains(t, "plan", r.Stderr, `unknown key "brandnew"`)
	operator.Contains(t, "plan", r.Stderr, "is opencode 1.19.2, and what that accepts is not known here")
	operator.Sh(t, `mkdir /var/lib/opencoded/schemas/1.19.2
sed 's/"shell": {/"brandnew": {"type": "boolean"},\n  "shell": {/' /var/lib/opencoded/schemas/1.18.33/config.schema.json > /var/lib/opencoded/schemas/1.19.2/config.schema.json`)
	r = operator.Command(t, "opencoded", "plan", "/etc/opencode/next.toml")
	operator.Same(t, "exit code with the schema of that version", r.Code, 0)
	operator.Lacks(t, "plan", r.Stderr, "opencode 1.19.2")
	operator.Contains(t, "versions", operator.Must(t, "opencoded", "config", "schema", "list"), "1.19.2")
	operator.Contains(t, "plan", r.Stdout, "brandnew")
}
