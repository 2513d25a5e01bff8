package escape

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const home = "$INSTANCE_HOME"

// opencodeProbes: an agent talks to no opencode server, and a locked configuration stays as it is.
var opencodeProbes = []probe{
	try("api-beta", "asks another instance's server without a password", fetched("http://127.0.0.1:8702/config", ""), noAnswer),
	try("api-beta-password", "asks it with its password", fetched("http://127.0.0.1:8702/config", "BETA_PASSWORD"), noAnswer),
	try("api-beta-6", "asks it by ::ffff:127.0.0.1", fetched("http://[::ffff:127.0.0.1]:8702/session", "BETA_PASSWORD"), noAnswer),
	try("api-beta-host", "asks it by an address of the host", fetched("http://192.0.2.1:8702/session", "BETA_PASSWORD"), noAnswer),
	try("api-own", "asks its own server without a password", fetched("http://127.0.0.1:8701/config", ""), noAnswer),
	try("api-own-password", "asks it with its password, to approve its own permissions", fetched("http://127.0.0.1:8701/permission", "ALPHA_PASSWORD"), noAnswer),
	try("api-own-mapped", "asks it by ::ffff:127.0.0.1", fetched("http://[::ffff:127.0.0.1]:8701/config", "ALPHA_PASSWORD"), noAnswer),

	try("config-write", "writes ~/.config/opencode/opencode.json", write(home+"/.config/opencode/opencode.json"), "EACCES"),
	try("config-create", "adds a file to ~/.config/opencode", create(home+"/.config/opencode/opencode.jsonc"), "EROFS"),
	try("config-agent", "adds an agent to ~/.config/opencode", create(home+"/.config/opencode/agent.md"), "EROFS"),
	try("config-replace", "puts another file in its configuration's place", shell("echo {} > ../new.json; mv ../new.json ~/.config/opencode/opencode.json"), "EROFS").compare(inside),
	try("config-remove", "removes its configuration", func() error { return unix.Unlink(os.ExpandEnv(home + "/.config/opencode/opencode.json")) }, "EROFS").compare(inside),
	try("config-move", "moves ~/.config/opencode away", moved(home+"/.config/opencode", home+"/.config/away"), "EBUSY"),
	try("config-parent-move", "moves ~/.config away", moved(home+"/.config", home+"/away"), "EBUSY"),
	try("config-rmdir", "removes ~/.config/opencode", func() error { return unix.Rmdir(os.ExpandEnv(home + "/.config/opencode")) }, "EBUSY").compare(inside),
	try("config-chmod", "makes its configuration writable", changed(home+"/.config/opencode/opencode.json"), "EROFS"),
	try("config-mount", "mounts something over ~/.config/opencode", sys(unix.SYS_MOUNT, "tmpfs", "/var/lib/opencode/instance-state/none/.config/opencode", "tmpfs", 0, 0), "EPERM"),
	try("dot-opencode", "adds a file to ~/.opencode", create(home+"/.opencode/opencode.json"), "EROFS"),
	try("dot-opencode-move", "moves ~/.opencode away", moved(home+"/.opencode", home+"/away2"), "EBUSY"),
	try("dot-opencode-replace", "links ~/.opencode elsewhere", shell("rmdir ~/.opencode && ln -s /tmp ~/.opencode"), "EBUSY").compare(inside),
	try("etc-write", "writes the configuration that is read last", write("/etc/opencode/opencode.json"), "EACCES").compare(depends),
	try("etc-create", "adds a file to /etc/opencode", create("/etc/opencode/opencode.jsonc"), "EROFS"),
	try("etc-list", "finds the inventory's secrets in /etc/opencode", read("/etc/opencode/beta.token"), "ENOENT"),
	try("source-config", "writes the file from which its configuration comes", write("/var/lib/opencoded/instances/alpha/config/opencode.json"), "ENOENT").compare(depends),
	try("source-script", "writes the script that its set-up runs", create("/var/lib/opencoded/instances/alpha/new.sh"), "ENOENT"),
	try("project-config", "has its server obey an opencode.json of the project", answered("is ignored", obeys), "is ignored").within(longer).compare(inside),
	try("operator", "applies an inventory of its own", answered("must be run as root", "echo 'version = 1' >i.toml; opencoded apply i.toml"), "must be run as root").compare(inside),
	try("net-ensure", "changes egress rules by opencoded itself", answered("must be run as root", "opencoded net ensure alpha"), "must be run as root").compare(inside),

	may("config-read", "reads its configuration", read(home+"/.config/opencode/opencode.json"), "opencode reads it, as the same user; secrets belong in environment files"),
	may("state-database", "writes what its server keeps in HOME", shell("ls ~/.local/share/opencode; touch ~/.local/share/opencode/x; rm ~/.local/share/opencode/x"), "the server runs as the same user: sessions are the agent's to change"),
	may("tool-settings", "adds settings of other programs to ~/.config", create(home+"/.config/new"), "git, gh and npm keep theirs there"),
	may("opencode-run", "starts opencode itself, with settings of its own", shell("opencode --version"), "the lock is about the server; what bash can do in the sandbox, another opencode can").within(longer),
}

// obeys also tries without the variable that the server is started with, where the file has to be obeyed.
const obeys = `
env -u OPENCODE_DISABLE_PROJECT_CONFIG opencode debug config | grep -q '"planted"'
opencode debug config | grep '"planted"' && exit
echo is ignored
exit 1`

// longer is for programs as large as opencode.
const longer = 20 * time.Second

// answered runs a script that has to fail with these words.
func answered(words, script string) call {
	return func() error {
		err := shell(script)()
		if err != nil && strings.Contains(err.Error(), words) {
			return outcome(words)
		}
		return err
	}
}

// changed sets the mode that a file has, which on a read-only mount fails whoever owns it.
func changed(path string) call {
	return func() error {
		path := os.ExpandEnv(path)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Chmod(path, info.Mode().Perm())
	}
}
