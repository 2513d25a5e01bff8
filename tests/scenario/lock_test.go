package scenario

import (
	"testing"
)

// configLock: the agent's own files do not change what a locked configuration
// says; with config_lock = false they do.
func configLock(t *testing.T) {
	project := `{"$schema":"https://opencode.ai/config.json","username":"project","agent":{"build":{"permission":{"bash":"allow"}}}}`
	for _, dir := range []string{"/srv/alpha", "/srv/beta"} {
		write(t, dir+"/opencode.json", project, 0o644)
		write(t, dir+"/.opencode/agent/planted.md", "---\ndescription: planted\n---\nI am planted.\n", 0o644)
		write(t, dir+"/AGENTS.md", "Rules of the project.\n", 0o644)
		sh(t, "chmod -R a+rwX "+dir)
	}
	r := apply(t, `
version = 1
[defaults.config]
username = "operator"
permission = { bash = "ask" }
[instances.alpha]
directory = "/srv/alpha"
listen.port = 8701
[instances.beta]
directory = "/srv/beta"
listen.port = 8702
config_lock = false
`)
	contains(t, "apply", r.stderr, "/srv/alpha/opencode.json is ignored: the configuration is locked")
	contains(t, "apply", r.stderr, "/srv/alpha/.opencode is ignored: the configuration is locked")
	lacks(t, "apply", r.stderr, "/srv/beta/opencode.json is ignored")

	alpha, beta := enter(t, "alpha"), enter(t, "beta")
	type config struct {
		Username     string
		Instructions []string
		Agent        map[string]any
	}
	var a, b config
	alpha.call(t, "GET", "/config", "", &a)
	beta.call(t, "GET", "/config", "", &b)
	same(t, "user name of the locked one", a.Username, "operator")
	same(t, "user name of the other", b.Username, "project")
	same(t, "agents of the locked one", len(a.Agent), 0)
	if b.Agent["planted"] == nil || b.Agent["build"] == nil {
		t.Errorf("agents of the other are %v, want build and planted", b.Agent)
	}
	same(t, "instructions of the locked one", len(a.Instructions), 2)
	same(t, "first of them", a.Instructions[0], "/srv/alpha/AGENTS.md")

	alpha.refused(t, "mv ~/.config ~/elsewhere", "busy")
	alpha.refused(t, "mv ~/.opencode ~/elsewhere", "busy")
	alpha.refused(t, "touch ~/.opencode/x", "Read-only file system")
	alpha.refused(t, "touch ~/.config/opencode/x", "Read-only file system")
	alpha.refused(t, "rm /etc/opencode/opencode.json", "Read-only file system")
	alpha.must(t, "mkdir ~/.config/other && touch ~/.config/other/x")
	same(t, "what alpha sees of /etc/opencode", alpha.must(t, "ls /etc/opencode"), "opencode.json")
	same(t, "what beta sees of /etc/opencode", beta.must(t, "ls /etc/opencode"), "")
	ledAstray(t)
}

// ledAstray: a link in the place of a directory that is mounted keeps the
// instance from starting, instead of leading the mount elsewhere.
func ledAstray(t *testing.T) {
	must(t, "systemctl", "stop", "opencode-alpha")
	sh(t, "runuser -u opencode-alpha -- sh -ec 'cd; rm -rf .config; ln -s /tmp .config'")
	same(t, "start with a link in the place of ~/.config", command(t, "systemctl", "start", "opencode-alpha").code, 1)
	r := command(t, "opencoded", "apply")
	same(t, "exit code of apply", r.code, 4)
	contains(t, "apply", r.stderr, "/var/lib/opencode/instance-state/alpha/.config")
	sh(t, "rm /var/lib/opencode/instance-state/alpha/.config")
	must(t, "opencoded", "apply")
	same(t, "alpha", status(t, "alpha").State, "healthy")
}
