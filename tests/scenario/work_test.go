package scenario

import (
	"os"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// ordinaryWork: what people do all day works in the sandbox.
func ordinaryWork(t *testing.T) {
	operator.Sh(t, `
useradd -m alice
runuser -u alice -- sh -ec 'git init -q /home/alice/project && cd /home/alice/project && git config user.name Alice && git config user.email alice@example.org && echo 1 > file && git add file && git commit -qm first'
runuser -u alice -- git -C /home/alice/project config --unset user.name
runuser -u alice -- git -C /home/alice/project config --unset user.email
chmod -R o+rwX /home/alice/project; chmod o+x /home/alice`)
	makeWorld(t) // a resolver only asks for IPv4 on a host that has an address
	serve(t, "", "dns 127.0.0.1:53 192.0.2.77")
	resolvFile(t)
	inventory := `
version = 1
[instances.alpha]
directory = "/home/alice/project"
listen.port = 8701
`
	operator.Apply(t, inventory)
	a := enter(t, "alpha")
	a.must(t, "echo 2 > file && git commit -qam second && git log --oneline | wc -l")
	operator.Same(t, "author", a.must(t, "git log -1 --format='%an <%ae>'"), "opencode <opencode-alpha@localhost>")
	a.must(t, "git checkout -qb topic && git branch -m other && git status --short")
	operator.Same(t, "umask", a.must(t, "umask"), "0002")
	operator.Same(t, "processors", a.must(t, "nproc"), operator.Must(t, "nproc"))
	operator.Contains(t, "ps", a.must(t, "ps aux"), "opencode serve --print-logs")
	operator.Contains(t, "free", a.must(t, "free -m"), "Mem:")
	a.must(t, "uptime && df . && mktemp -d && echo x | tee /tmp/x >/dev/null && ls /etc/ssl/certs >/dev/null")
	operator.Same(t, "an interpreter", a.must(t, "perl -e 'print 6*7'"), "42")
	operator.Same(t, "resolution, resolv.conf a file", a.must(t, "getent ahostsv4 name.example.org | head -n 1 | cut -d ' ' -f 1"), "192.0.2.77")
	operator.Same(t, "localhost", a.must(t, "getent hosts localhost | wc -w"), "2")

	// Elsewhere resolv.conf is a link into /run, which the instance does not see.
	operator.Sh(t, "mkdir -p /run/resolver && mv /etc/resolv.conf /run/resolver/stub.conf && ln -s /run/resolver/stub.conf /etc/resolv.conf")
	operator.Apply(t, inventory)
	a = enter(t, "alpha")
	const resolve = "getent ahostsv4 name.example.org | head -n 1 | cut -d ' ' -f 1"
	operator.Same(t, "resolution, resolv.conf a link into /run", a.must(t, resolve), "192.0.2.77")
	// The resolver replaces its file by renaming: the instance sees the new one.
	operator.Sh(t, "cp /run/resolver/stub.conf /run/resolver/new && echo '# replaced' >> /run/resolver/new && mv /run/resolver/new /run/resolver/stub.conf")
	operator.Contains(t, "resolv.conf", a.must(t, "cat /etc/resolv.conf"), "# replaced")
	operator.Same(t, "resolution after a replacement", a.must(t, resolve), "192.0.2.77")
}

// resolvFile makes /etc/resolv.conf a plain file, whatever it was.
func resolvFile(t *testing.T) {
	if err := os.Remove("/etc/resolv.conf"); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	operator.Write(t, "/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1\n", 0o644)
	operator.Write(t, "/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", 0o644)
}
