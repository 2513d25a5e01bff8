package scenario

import (
	"strings"
	"testing"
	"time"

	"github.com/opencoded/opencoded/tests/operator"
)

// egressKept: while opencoded.service runs, rules that something else takes away
// or changes are back without anybody's doing, and the journal says what was
// found and who did it; without it, a start of an instance loads them.
func egressKept(t *testing.T) {
	makeWorld(t)
	serve(t, "world", "web [::]:9000")
	// Beyond loopback nftables stands alone, so that nothing else hides a gap.
	operator.Apply(t, strings.Replace(restrictedAlpha, "listen.port = 8701", `listen = { address = "0.0.0.0", port = 8701 }`, 1))
	alpha := enter(t, "alpha")
	const alone = "alpha: listens beyond loopback: egress is restricted by nftables alone"
	const remedy = "systemctl enable --now opencoded"
	status := func() string { return operator.Must(t, "opencoded", "status") }
	operator.Contains(t, "status without the daemon", status(), alone)
	operator.Contains(t, "status without the daemon", status(), remedy)
	operator.Must(t, "systemctl", "start", "opencoded")
	operator.Contains(t, "status with the daemon", status(), alone)
	operator.Lacks(t, "status with the daemon", status(), remedy)
	operator.Contains(t, "status of the unit", operator.Must(t, "systemctl", "show", "-p", "StatusText", "opencoded"), "Egress rules hold")

	for _, cut := range []string{"nft flush ruleset", "nft delete table inet opencode-alpha", "nft delete table inet opencoded-guard",
		"nft add rule inet opencode-alpha egress accept", "nft add element inet opencode-alpha allow4 '{ 198.51.100.0/24 }'", "systemctl restart nftables"} {
		operator.Sh(t, cut)
		operator.Eventually(t, "the rules are back after "+cut, func() bool {
			return operator.Command(t, "opencoded", "net", "show").Code == 0
		})
		before := received(t, other4)
		alpha.refused(t, fetch(other4, 9000), "timed out")
		operator.Same(t, "packets that got out after "+cut, received(t, other4)-before, 0)
		operator.Same(t, "allowed after "+cut, alpha.must(t, fetch(allowed4, 9000)), "hello")
		operator.Lacks(t, "tables after "+cut, operator.Must(t, "nft", "list", "tables"), "opencoded-lockdown")
	}
	journal := operator.Must(t, "journalctl", "-u", "opencoded", "-o", "cat", "--no-pager")
	for _, part := range []string{"egress rules restored", "table inet opencode-alpha missing", "rule unexpected: accept",
		"element 198.51.100.0/24 unexpected", `"changed_by": "nft (pid `} {
		operator.Contains(t, "journal", journal, part)
	}
	operator.Lacks(t, "journal", journal, "cannot")

	flushUnderFire(t, alpha)

	// What an apply changes is no intrusion.
	repairs := func() int {
		text := operator.Must(t, "journalctl", "-u", "opencoded", "-o", "cat", "--no-pager")
		return strings.Count(text, "egress rules restored") + strings.Count(text, "drift repaired")
	}
	before := repairs()
	operator.Apply(t, strings.Replace(restrictedAlpha, "192.0.2.0/24", "198.51.100.0/24", 1))
	operator.NothingToDo(t)
	operator.Same(t, "repairs after an apply", repairs(), before)

	// Rules go by themselves, whatever becomes of the inventory.
	operator.Sh(t, "mv /etc/opencode/instances.toml /etc/opencode/away; systemctl restart opencoded")
	withoutAccount(t)

	operator.Must(t, "systemctl", "stop", "opencoded")
	operator.Must(t, "nft", "flush", "ruleset")
	operator.Must(t, "systemctl", "restart", "opencode-alpha")
	operator.Must(t, "nft", "list", "table", "inet", "opencode-alpha")
	withoutRules(t)
}

// withoutAccount: rules go by user id. What runs keeps them while nobody else has
// its id; with the account and the processes they go, and match nobody who gets the
// id next.
func withoutAccount(t *testing.T) {
	uid := operator.Must(t, "id", "-u", "opencode-alpha")
	loaded := func() bool { return operator.Command(t, "nft", "list", "table", "inet", "opencode-alpha").Code == 0 }
	asNext := func() operator.Result {
		return operator.Command(t, "setpriv", "--reuid", uid, "--clear-groups", "sh", "-c", fetch(allowed4, 9000))
	}
	operator.Must(t, "userdel", "-f", "opencode-alpha")
	operator.Same(t, "blocked while it runs, exit code of curl", asNext().Code, 28)
	operator.Must(t, "nft", "flush", "ruleset")
	operator.Eventually(t, "the rules of what runs without an account are back", loaded)

	operator.Must(t, "useradd", "-M", "-u", uid, "carol")
	operator.Eventually(t, "rules that would match carol are gone", func() bool { return !loaded() })
	if r := asNext(); r.Stdout != "hello" {
		t.Errorf("carol does not reach what alpha may not: %v\n%s", r, operator.Must(t, "nft", "list", "ruleset"))
	}
	operator.Lacks(t, "guard", operator.Must(t, "nft", "list", "table", "inet", "opencoded-guard"), uid)
	operator.Contains(t, "journal", operator.Must(t, "journalctl", "-u", "opencoded", "-o", "cat", "--no-pager"), "table inet opencode-alpha removed: no account of alpha")
	operator.Same(t, "start without an account, exit code", operator.Command(t, "systemctl", "restart", "opencode-alpha").Code, 1)

	operator.Must(t, "userdel", "carol")
	operator.Sh(t, "systemd-sysusers opencode-alpha.conf; chown -R opencode-alpha: /var/lib/opencode/instance-state/alpha /srv/alpha")
	operator.Sh(t, "mv /etc/opencode/away /etc/opencode/instances.toml; opencoded apply")
	operator.NothingToDo(t)
	operator.Eventually(t, "the rules are back", loaded)
	operator.Same(t, "alpha with a new account", operator.Status(t, "alpha").State, "healthy")
}

// withoutRules: where they cannot be put in place, nothing starts, and the reason
// is told where an administrator looks.
func withoutRules(t *testing.T) {
	operator.Sh(t, "nft delete table inet opencode-alpha; nft add table inet opencode-alpha")
	operator.Same(t, "start beside a table of somebody else, exit code", operator.Command(t, "systemctl", "restart", "opencode-alpha").Code, 1)
	for what, said := range map[string]string{
		"journal": operator.Must(t, "journalctl", "-u", "opencode-alpha*", "--no-pager", "-n", "20"),
		"apply":   operator.Command(t, "opencoded", "apply").Stderr,
	} {
		operator.Contains(t, what, said, "table inet opencode-alpha: not opencoded's table")
	}
	operator.Same(t, "alpha", operator.Must(t, "systemctl", "show", "-P", "MainPID", "opencode-alpha"), "0")
	operator.Must(t, "nft", "delete", "table", "inet", "opencode-alpha")
	operator.Must(t, "opencoded", "apply")
	operator.Same(t, "alpha", operator.Status(t, "alpha").State, "healthy")
}

// flushUnderFire: an instance that sends without pause gets next to nothing out
// while the ruleset is flushed again and again.
func flushUnderFire(t *testing.T, alpha *agent) {
	before := received(t, other4)
	alpha.run(t, "for i in 1 2; do (timeout 15 bash -c 'while :; do echo x > /dev/udp/"+other4+"/9; done' >/dev/null 2>&1 &); done")
	began := time.Now()
	for range 10 {
		operator.Must(t, "nft", "flush", "ruleset")
		operator.Eventually(t, "the rules are back", func() bool {
			return operator.Command(t, "nft", "list", "table", "inet", "opencode-alpha").Code == 0
		})
	}
	sent := operator.Status(t, "alpha").Blocked
	got := received(t, other4) - before
	t.Logf("10 flushes in %s: %d datagrams got out, %d were blocked since the last", time.Since(began), got, sent)
	operator.Eventually(t, "datagrams are blocked", func() bool { return operator.Status(t, "alpha").Blocked > sent })
	settled, blocked := received(t, other4), operator.Status(t, "alpha").Blocked
	operator.Eventually(t, "many more are", func() bool { return operator.Status(t, "alpha").Blocked > blocked+200 })
	operator.Same(t, "datagrams that get out afterwards", received(t, other4)-settled, 0)
	alpha.run(t, "pkill -f dev/udp; true")
}
