package scenario

import (
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// configLock: the agent's own files do not change what a locked configuration
// says; with config_lock = false they do.
func configLock(t *testing.T) {
	project := `{"$schema":"https://opencode.ai/config.json","username":"project","agent":{"build":{"permission":{"bash":"allow"}}}}`
	for _, dir := range []string{"/srv/alpha", "/srv/beta"} {
		operator.Write(t, dir+"/opencode.json", project, 0o644)
		operator.Write(t, dir+"/.opencode/agent/planted.md", "---\ndescription: planted\n---\nI am planted.\n", 0o644)
		operator.Write(t, dir+"/AGENTS.md", "Rules of the project.\n", 0o644)
		operator.Sh(t, "chmod -R a+rwX "+dir)
	}
	r := operator.Apply(t, `
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
	operator.Contains(t, "apply", r.Stderr, "/srv/alpha/opencode.json is ignored: the configuration is locked")
	operator.Contains(t, "apply", r.Stderr, "/srv/alpha/.opencode is ignored: the configuration is locked")
	operator.Lacks(t, "apply", r.Stderr, "/srv/beta/opencode.json is ignored")

	alpha, beta := enter(t, "alpha"), enter(t, "beta")
	type config struct {
		Username     string
		Instructions []string
		Agent        map[string]any
	}
	var a, b config
	alpha.call(t, "GET", "/config", "", &a)
	beta.call(t, "GET", "/config", "", &b)
	operator.Same(t, "user name of the locked one", a.Username, "operator")
	operator.Same(t, "user name of the other", b.Username, "project")
	operator.Same(t, "agents of the locked one", len(a.Agent), 0)
	if b.Agent["planted"] == nil || b.Agent["build"] == nil {
		t.Errorf("agents of the other are %v, want build and planted", b.Agent)
	}
	operator.Same(t, "instructions of the locked one", len(a.Instructions), 2)
	operator.Same(t, "first of them", a.Instructions[0], "/srv/alpha/AGENTS.md")

	alpha.refused(t, "mv ~/.config ~/elsewhere", "busy")
	alpha.refused(t, "mv ~/.opencode ~/elsewhere", "busy")
	alpha.refused(t, "touch ~/.opencode/x", "Read-only file system")
	alpha.refused(t, "touch ~/.config/opencode/x", "Read-only file system")
	alpha.refused(t, "rm /etc/opencode/opencode.json", "Read-only file system")
	alpha.must(t, "mkdir ~/.config/other && touch ~/.config/other/x")
	operator.Same(t, "what alpha sees of /etc/opencode", alpha.must(t, "ls /etc/opencode"), "opencode.json")
	operator.Same(t, "what beta sees of /etc/opencode", beta.must(t, "ls /etc/opencode"), "")
	ledAstray(t)
}

// ledAstray: a link in the place of a directory that is mounted keeps the
// instance from starting, instead of leading the mount elsewhere.
func ledAstray(t *testing.T) {
	operator.Must(t, "systemctl", "stop", "opencode-alpha")
	operator.Sh(t, "runuser -u opencode-alpha -- sh -ec 'cd; rm -rf .config; ln -s /tmp .config'")
	operator.Same(t, "start with a link in the place of ~/.config", operator.Command(t, "systemctl", "start", "opencode-alpha").Code, 1)
	r := operator.Command(t, "opencoded", "apply")
	operator.Same(t, "exit code of apply", r.Code, 4)
	operator.Contains(t, "apply", r.Stderr, "/var/lib/opencode/instance-state/alpha/.config")
	operator.Sh(t, "rm /var/lib/opencode/instance-state/alpha/.config")
	operator.Must(t, "opencoded", "apply")
	operator.Same(t, "alpha", operator.Status(t, "alpha").State, "healthy")
	ledIntoTheHost(t)
}

// ledIntoTheHost: a path within the project that is given read-only is bound
// again at each start; a link that the agent puts there must not show it
// something else of the host.
func ledIntoTheHost(t *testing.T) {
	operator.Write(t, "/data/secret", "of the host", 0o644)
	operator.Sh(t, "mkdir -p /srv/gamma/sub/vendor && chmod -R a+rwX /srv/gamma")
	operator.Apply(t, `
version = 1
[instances.gamma]
directory = "/srv/gamma"
listen.port = 8703
sandbox.read_only_paths = ["/srv/gamma/sub/vendor"]
`)
	gamma := enter(t, "gamma")
	gamma.refused(t, "mv sub/vendor sub/other", "busy")
	gamma.must(t, "mv sub other && mkdir sub && ln -s /data sub/vendor")
	operator.Same(t, "restart with a link in the place of a given path", operator.Command(t, "systemctl", "restart", "opencode-gamma").Code, 1)
	operator.Sh(t, "rm /srv/gamma/sub/vendor && rmdir /srv/gamma/sub && mv /srv/gamma/other /srv/gamma/sub")
	operator.Must(t, "opencoded", "apply")
	enter(t, "gamma").must(t, "ls sub/vendor")
}
