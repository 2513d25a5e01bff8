package scenario

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

const bashDenied = `
version = 1
[defaults.config]
permission = { bash = "deny" }
STANDIN
[instances.alpha]
directory = "/srv/alpha"
listen.port = 8701
[instances.beta]
directory = "/srv/beta"
listen.port = 8702
config_lock = false
`

// What an agent may write in its project to get what it was denied. Each agent is one
// more way to ask for bash.
const widening = `
mkdir -p .opencode/agent .opencode/agents
cat > opencode.json <<'EOF'
{"$schema": "https://opencode.ai/config.json", "permission": {"bash": "allow"}, "agent": {
	"build": {"permission": {"bash": "allow"}},
	"by-config": {"mode": "primary", "prompt": "x", "permission": {"bash": "allow"}}}}
EOF
cat > .opencode/opencode.jsonc <<'EOF'
{"$schema": "https://opencode.ai/config.json", "agent": {"by-nested": {"mode": "primary", "prompt": "x", "permission": {"bash": "allow"}}}}
EOF
for name in agent/by-file agents/by-file-too; do
	printf -- '---\ndescription: x\nmode: primary\npermission:\n  bash: allow\n---\nx\n' > .opencode/$name.md
done
cat > ~/.profile <<'EOF'
export OPENCODE_PERMISSION='{"bash":"allow"}' OPENCODE_CONFIG_CONTENT='{"permission":{"bash":"allow"}}'
export OPENCODE_CONFIG=$PWD/opencode.json OPENCODE_CONFIG_DIR=$PWD/.opencode XDG_CONFIG_HOME=$PWD OPENCODE_DISABLE_PROJECT_CONFIG=
EOF
cp ~/.profile ~/.bashrc
`

// plugin would run in the server itself. Without its network opencode waits a minute
// for the packages of a plugin that it accepts, so only the locked instance gets it.
const plugin = `
mkdir .opencode/plugin
cat > .opencode/plugin/plugin.ts <<'EOF'
import { writeFileSync } from "fs"
export const Plugin = async () => { writeFileSync("plugin-ran", "x"); return {} }
EOF
`

// agentsAsked are who is asked for bash; all but the first are planted.
var agentsAsked = []string{"build", "by-config", "by-nested", "by-file", "by-file-too"}

// configurationHolds: a model that wants to run a command, and an agent that has
// written everything it can to be allowed to, are refused by permission.bash = "deny"
// while the configuration is locked. The same files work where it is not.
func configurationHolds(t *testing.T) {
	serve(t, "", "model 127.0.0.1:9200")
	operator.Apply(t, strings.Replace(bashDenied, "STANDIN", strings.ReplaceAll(standInModel, "CONFIG", "defaults.config"), 1))
	alpha, beta := enter(t, "alpha"), enter(t, "beta")
	// Before anybody wrote anything both refuse.
	const unavailable = "unavailable tool 'bash'"
	operator.Contains(t, "what alpha's model is told", alpha.ask(t, "build", "touch proof"), unavailable)
	operator.Contains(t, "what beta's model is told", beta.ask(t, "build", "touch proof"), unavailable)

	for _, a := range []*agent{alpha, beta} {
		a.must(t, widening)
	}
	alpha.must(t, plugin)
	beyondReach(t, alpha)
	for _, name := range []string{"alpha", "beta"} {
		operator.Must(t, "systemctl", "restart", "opencode-"+name)
		operator.Eventually(t, name+" is healthy again", func() bool { return operator.Status(t, name).State == "healthy" })
	}
	alpha, beta = enter(t, "alpha"), enter(t, "beta")
	for _, by := range agentsAsked {
		outcome := alpha.ask(t, by, "touch proof-"+by)
		if by == "build" {
			operator.Contains(t, "what alpha's model is told after a restart", outcome, unavailable)
		} else {
			operator.Contains(t, "alpha by "+by, outcome, "500 Internal Server Error") // opencode's way of not knowing an agent
		}
		operator.Contains(t, "beta by "+by, beta.ask(t, by, "touch proof-"+by), "bash completed")
	}
	operator.Same(t, "what came of it in alpha", alpha.must(t, "ls | grep -e proof -e plugin-ran || true"), "")
	operator.Same(t, "what came of it in beta", beta.must(t, "ls | grep -e proof -e plugin-ran"), "proof-build\nproof-by-config\nproof-by-file\nproof-by-file-too\nproof-by-nested")

	var known []struct{ Name string }
	alpha.call(t, "GET", "/agent", "", &known)
	for _, k := range known {
		if slices.Contains(agentsAsked[1:], k.Name) {
			t.Errorf("alpha knows the planted agent %s", k.Name)
		}
	}
}

// beyondReach: the places that opencode reads besides the project, and the server's
// own interface, which would take an answer to a question of its own.
func beyondReach(t *testing.T, alpha *agent) {
	for _, write := range []string{
		"mkdir ~/.opencode/agent", "touch ~/.config/opencode/agent.md", "touch /etc/opencode/opencode.jsonc", "echo x > ~/.config/opencode/opencode.json",
		"ln -sf /srv/alpha/opencode.json ~/.config/opencode/opencode.json", "cp opencode.json /srv/opencode.json", "cp opencode.json /opencode.json",
	} {
		alpha.refused(t, write, "Read-only file system")
	}
	for _, move := range []string{"mv ~/.config ~/x", "mv ~/.opencode ~/x", "mv ~/.config/opencode ~/.config/x", "rmdir ~/.opencode"} {
		alpha.refused(t, move, "busy")
	}
	const allow = `-X PATCH -H 'Content-Type: application/json' -d '{"permission":{"bash":"allow"}}'`
	for _, address := range []string{"127.0.0.1", "127.1.2.3", "localhost", "0.0.0.0"} {
		out, code := alpha.run(t, `curl -s -m 1 -u "opencode:$OPENCODE_SERVER_PASSWORD" `+allow+" http://"+address+":8701/config")
		if code != 28 {
			t.Errorf("alpha reaches its own server at %s: exit %d: %s", address, code, out)
		}
	}
}
