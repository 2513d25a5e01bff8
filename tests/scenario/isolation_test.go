package scenario

import (
	"fmt"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// nestedPaths: the innermost word about a path is the one that holds, whatever is
// around it, and links are followed when the operator made them.
func nestedPaths(t *testing.T) {
	operator.Sh(t, `
mkdir -p /srv/ref/doc/cache /srv/ref/secret/open /home/alice/notes/inbox /data/real '/srv/odd name'
touch /srv/ref/file /srv/ref/doc/file /srv/ref/secret/file /srv/ref/secret/open/file /home/alice/file /home/alice/notes/file
chmod -R a+rwX /srv/ref /home/alice '/srv/odd name' /data/real
ln -s /data/real /srv/link`)
	operator.Apply(t, `
version = 1
[instances.alpha]
directory = "/srv/link"
listen.port = 8701
[instances.alpha.sandbox]
read_only_paths = ["/srv/ref", "/srv/ref/secret/open", "/home/alice/notes"]
read_write_paths = ["/srv/ref/doc/cache", "/home/alice/notes/inbox", "/srv/odd name"]
inaccessible_paths = ["/srv/ref/secret", "/home/alice"]
`)
	operator.NothingToDo(t)
	alpha := enter(t, "alpha")
	operator.Same(t, "directory", alpha.must(t, "touch made && ls"), "made")
	operator.Same(t, "where the link leads", operator.Sh(t, "ls /data/real"), "made")
	for _, p := range []string{"/srv/ref/doc/cache", "/home/alice/notes/inbox", "'/srv/odd name'"} {
		alpha.must(t, "touch "+p+"/x")
	}
	for _, p := range []string{"/srv/ref", "/srv/ref/doc", "/srv/ref/secret/open", "/home/alice/notes", "/srv/ref/secret", "/home/alice"} {
		alpha.refused(t, "touch "+p+"/x", "Read-only file system")
	}
	alpha.must(t, "cat /srv/ref/file /srv/ref/doc/file /srv/ref/secret/open/file /home/alice/notes/file")
	alpha.refused(t, "cat /srv/ref/secret/file", "No such file or directory")
	alpha.refused(t, "cat /home/alice/file", "No such file or directory")
	operator.Same(t, "what is left of a hidden directory", alpha.must(t, "ls -A /srv/ref/secret /home"), "/home:\nalice\n\n/srv/ref/secret:\nopen")
}

// isolation: neither of two instances sees, reads or writes the other's
// directory, state, environment or processes, nor anything else of the host.
func isolation(t *testing.T) {
	operator.Write(t, "/data/other/secret", "of the host", 0o644)
	operator.Write(t, "/home/alice/secret", "of alice", 0o644)
	operator.Write(t, "/srv/reference/book", "text", 0o666)
	operator.Write(t, "/srv/reference/hidden/book", "text", 0o644)
	operator.Sh(t, "mkdir -p /srv/cache && chmod 1777 /srv/cache")
	operator.Apply(t, twoInstances+`
environment = { PLANTED = "planted-in-beta" }
[instances.alpha.sandbox]
read_write_paths = ["/srv/cache", "-/srv/not-there"]
read_only_paths = ["/srv/reference"]
inaccessible_paths = ["/srv/reference/hidden"]
`)
	operator.NothingToDo(t)
	alpha, beta := enter(t, "alpha"), enter(t, "beta")
	beta.must(t, "echo of-beta > ~/secret; echo of-beta > secret; chmod 777 ~/secret secret")
	betaPID := operator.PID(t, "beta")

	for _, p := range []string{
		"/srv/beta", "/srv/beta/secret", "/var/lib/opencode/instance-state/beta", "/data", "/home/alice",
		"/var/lib/opencoded", "/etc/opencode/instances.toml", "/var/log", "/run/systemd/private", "/run/dbus",
		"/proc/" + betaPID, "/proc/1/environ", "/boot",
	} {
		alpha.refused(t, "cat "+p, "No such file or directory")
		alpha.refused(t, "ls -d "+p, "No such file or directory")
	}
	// Newer versions lay a directory there that only root can look into.
	alpha.refused(t, "cat /root/.bashrc || stat /root/.bashrc", "/root/.bashrc'")
	operator.Same(t, "/root as alpha's root has it", operator.Must(t, "ls", "-A", "/proc/"+operator.PID(t, "alpha")+"/root/root"), "")
	for _, p := range []string{"/srv", "/var/lib/opencode/instance-state", "/usr/bin", "/etc", "/"} {
		alpha.refused(t, "touch "+p+"/x", "Read-only file system")
	}
	alpha.refused(t, "mkdir /srv/beta", "Read-only file system")
	alpha.refused(t, "ls /etc/systemd/system", "Permission denied")
	alpha.refused(t, "cat /etc/sysusers.d/opencode-beta.conf", "Permission denied")
	alpha.refused(t, "cat /etc/shadow", "Permission denied")
	alpha.refused(t, "kill -0 "+betaPID, "Operation not permitted")
	operator.Lacks(t, "processes that alpha sees", alpha.must(t, "ps axe -o user,args"), "opencode-beta")
	operator.Lacks(t, "everything alpha can read of processes", alpha.must(t, "cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; true"), "planted-in-beta")
	operator.Same(t, "what is in /srv for alpha", alpha.must(t, "ls /srv"), "alpha\ncache\nreference")

	// What is given is given.
	alpha.must(t, "echo 1 > /srv/cache/by-alpha && echo 1 > by-alpha && echo 1 > ~/by-alpha && echo 1 > /tmp/by-alpha")
	operator.Same(t, "read-only path", alpha.must(t, "cat /srv/reference/book"), "text")
	alpha.refused(t, "touch /srv/reference/book", "Read-only file system")
	alpha.refused(t, "ls /srv/reference/hidden", "Permission denied")
	beta.refused(t, "ls /srv/cache", "No such file or directory")
	beta.refused(t, "ls /tmp/by-alpha", "No such file or directory")
	operator.Same(t, "beta's own environment", beta.must(t, "echo $PLANTED"), "planted-in-beta")

	for name, a := range map[string]*agent{"alpha": alpha, "beta": beta} {
		operator.Same(t, "capabilities of "+name, a.must(t, "grep CapBnd /proc/self/status | tr -d '\\t'"), "CapBnd:0000000000000000")
		operator.Same(t, "no new privileges for "+name, a.must(t, "grep NoNewPrivs /proc/self/status | tr -d '\\t'"), "NoNewPrivs:1")
		score := operator.Must(t, "bash", "-c", fmt.Sprintf("systemd-analyze security --no-pager opencode-%s | grep -o 'level for.*' | grep -o '[0-9.]* OK'", name))
		operator.Same(t, "exposure of "+name, score, "1.1 OK")
	}
}
