package scenario

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// neighbour is something else that writes rules.
type neighbour struct {
	name    string
	start   string // puts its rules in place
	rules   string // part of them
	disturb string // what an administrator does with it on an ordinary day
	restart string // the same while opencoded.service runs; without, it is disturb
	flushes bool   // start and disturb take opencoded's rules along
	stop    string
}

var neighbourList = []neighbour{
	{
		name:    "firewalld and Docker",
		start:   "systemctl start firewalld docker",
		rules:   "DOCKER-USER",
		disturb: "firewall-cmd -q --permanent --add-port=9100/tcp; firewall-cmd -q --complete-reload; systemctl restart docker",
		restart: "systemctl restart firewalld docker",
		stop:    "systemctl stop docker.socket docker firewalld",
	},
	{
		name:    "ufw",
		start:   "ufw allow 22/tcp; ufw --force enable",
		rules:   "ufw-user-input",
		disturb: "ufw allow 9100/tcp; ufw reload",
		restart: "systemctl restart ufw",
		stop:    "ufw disable",
	},
	{
		name:    "iptables",
		start:   byHand,
		rules:   `oifname "none0"`,
		disturb: "iptables -F; ip6tables -F; iptables-save | iptables-restore; " + byHand,
		stop:    "for i in iptables ip6tables; do for table in filter nat mangle raw; do $i -t $table -F; done; done",
	},
	{
		name:    "other priorities",
		start:   priorities,
		rules:   "table inet opencode-gamma",
		disturb: "nft add rule inet same out tcp dport 1 accept; nft delete table inet late; nft add table inet late",
		stop:    "for table in early same late opencode-gamma; do nft delete table inet $table; done",
	},
	{
		name:    "nftables.conf",
		start:   nftablesConf + "systemctl restart nftables",
		rules:   "tcp dport 22",
		disturb: "systemctl restart nftables",
		flushes: true,
		stop:    "nft delete table inet filter",
	},
}

const byHand = `
for i in iptables ip6tables; do
	$i -P FORWARD DROP
	$i -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
	$i -A OUTPUT -m owner --uid-owner 0 -m comment --comment "of the administrator" -j ACCEPT
	$i -t mangle -A POSTROUTING -p tcp -j MARK --set-mark 7
	$i -t nat -A POSTROUTING -o none0 -j MASQUERADE
	$i -t raw -A OUTPUT -p udp --dport 9 -j NOTRACK
done
`

// Tables on the hook that opencoded uses, before, at and after its priority, with
// verdicts of their own; and one whose name nearly is opencoded's.
const priorities = `nft -f - <<EOF
table inet early {
	chain out {
		type filter hook output priority -200; policy accept;
		meta skuid >= 0 counter accept
	}
}
table inet same {
	chain out {
		type filter hook output priority filter; policy accept;
		ct state new accept
	}
}
table inet late {
	chain out {
		type filter hook output priority 200; policy accept;
		counter accept
	}
}
table inet opencode-gamma {
	chain out {
		type filter hook output priority filter + 5; policy accept;
		accept
	}
}
EOF
`

const nftablesConf = `cat > /etc/nftables.conf <<EOF
flush ruleset
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		iif lo accept
		ct state established,related accept
		meta l4proto ipv6-icmp accept
		tcp dport 22 accept
	}
	chain output {
		type filter hook output priority filter; policy accept;
	}
}
EOF
`

// neighbours: opencoded works next to whatever else writes rules. Neither an apply
// nor the removal of everything touches a rule of theirs, isolation holds, and
// what they do with their own rules does not end it.
func neighbours(t *testing.T) {
	makeWorld(t)
	serve(t, "world", "web [::]:9000")
	operator.Apply(t, restrictedAlpha)
	alpha, pid := enter(t, "alpha"), operator.PID(t, "alpha")
	for _, n := range neighbourList {
		t.Run(n.name, func(t *testing.T) { n.run(t, alpha) })
	}
	operator.Same(t, "pid of alpha", operator.PID(t, "alpha"), pid)
	flushedBeforeStart(t)

	operator.Sh(t, byHand+priorities)
	before := others(t)
	operator.Apply(t, none)
	operator.Same(t, "rules of others after removal", others(t), before)
	for _, table := range []string{"opencoded-", "opencode-alpha"} { // opencode-gamma is another's
		operator.Lacks(t, "rules after removal", operator.Must(t, "nft", "list", "ruleset"), "table inet "+table)
	}
}

func (n neighbour) run(t *testing.T, alpha *agent) {
	operator.Sh(t, n.start)
	before := others(t)
	operator.Contains(t, "rules of "+n.name, before, n.rules)
	isolated(t, "when it came", alpha, !n.flushes)

	if !n.flushes {
		operator.Sh(t, "nft delete table inet opencode-alpha; nft delete table inet opencoded-guard")
	}
	operator.Must(t, "opencoded", "apply")
	operator.NothingToDo(t)
	operator.Same(t, "rules of others after apply", others(t), before)

	operator.Sh(t, n.disturb)
	theirs, left := others(t), strings.Contains(operator.Must(t, "nft", "list", "tables"), "opencode-alpha")
	operator.Same(t, "rules of opencoded's are left", left, !n.flushes)
	isolated(t, "after what it does", alpha, left)
	operator.Must(t, "opencoded", "apply")
	operator.NothingToDo(t)
	if n.flushes {
		isolated(t, "after apply", alpha, true)
	}
	operator.Same(t, "rules of others after another apply", others(t), theirs)

	operator.Must(t, "systemctl", "start", "opencoded")
	operator.Sh(t, cmp.Or(n.restart, n.disturb))
	operator.Eventually(t, "the rules hold beside "+n.name, func() bool {
		return operator.Command(t, "opencoded", "net", "show").Code == 0
	})
	isolated(t, "while it restarts beside the daemon", alpha, true)
	operator.Contains(t, "rules of "+n.name, others(t), n.rules)
	operator.Must(t, "systemctl", "stop", "opencoded")
	operator.Sh(t, n.stop)
}

// flushedBeforeStart: after /etc/nftables.conf has flushed everything a unit that
// starts puts back its own rules, an apply all of them.
func flushedBeforeStart(t *testing.T) {
	operator.Must(t, "systemctl", "restart", "nftables")
	operator.Lacks(t, "tables after a flush", operator.Must(t, "nft", "list", "tables"), "opencode")
	operator.Must(t, "systemctl", "restart", "opencode-alpha")
	operator.Must(t, "nft", "list", "table", "inet", "opencode-alpha")
	operator.Must(t, "nft", "list", "table", "inet", "opencoded-guard")
	operator.Eventually(t, "alpha is healthy again", func() bool { return operator.Status(t, "alpha").State == "healthy" })
	isolated(t, "after a start", enter(t, "alpha"), true)
	operator.NothingToDo(t)
	operator.Must(t, "nft", "delete", "table", "inet", "filter")
}

// isolated asks from inside, all at once: what is allowed is reached over both
// families, what is not reaches nobody, by systemd where the rules were flushed.
// The guard, which keeps instances apart, has no such second.
func isolated(t *testing.T, when string, alpha *agent, guarded bool) {
	t.Helper()
	want := map[string]string{allowed4: "0", allowed6: "0", other4: "28", other6: "28"}
	sent := map[string]int{}
	var script strings.Builder
	for a := range want {
		sent[a] = received(t, a)
		fmt.Fprintf(&script, "(curl -s -m 1 -o /dev/null http://%s:9000/; echo %s $?) &\n", bracket(a), a)
	}
	fmt.Fprintln(&script, "(curl -s -m 1 -o /dev/null http://127.0.0.1:8702/; echo beta $?) &\nwait")
	out := alpha.must(t, script.String())
	for a, code := range want {
		operator.Contains(t, when, out, a+" "+code)
		if passed := received(t, a) > sent[a]; passed != (code == "0") {
			t.Errorf("%s: packets reached %s: %v", when, a, passed)
		}
	}
	if guarded {
		operator.Lacks(t, when, out, "beta 0")
	}
}

// others are the tables that are not opencoded's, as nft prints them, without
// counts.
func others(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for table := range strings.SplitSeq("\n"+operator.Must(t, "nft", "-s", "list", "ruleset")+"\n", "\ntable ") {
		if !strings.HasPrefix(table, "inet opencode-alpha ") && !strings.HasPrefix(table, "inet opencode-web ") && !strings.HasPrefix(table, "inet opencoded-guard ") {
			out.WriteString("table " + strings.TrimSpace(table) + "\n")
		}
	}
	return out.String()
}
