package scenario

import (
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

const narrowAlpha = `
version = 1
[host]
egress_layout = "LAYOUT"
[instances.alpha]
directory = "/srv/alpha"
listen.port = 8701
[instances.alpha.network_isolation]
enable = true
dns = false
on_block = "reject"
outbound_allow_cidrs = ["192.0.2.2:9000", "[2001:db8:1::/64]:9000", "198.51.100.2:53/udp"]
[instances.beta]
directory = "/srv/beta"
listen.port = 8702
[instances.beta.network_isolation]
enable = true
mode = "report"
outbound_allow_cidrs = ["192.0.2.0/24"]
`

// egressPorts: in either layout of the tables, an entry with a port allows that
// port and protocol alone, dns = false closes the host's own resolver, report
// mode blocks nothing and counts, and what `net test` says is what happens.
func egressPorts(t *testing.T) {
	makeWorld(t)
	serve(t, "world", "web [::]:9000 0.0.0.0:9001")
	serve(t, "", "web 127.0.0.1:53 127.0.0.1:9100")
	pids := map[string]string{}
	for _, layout := range []string{"per-instance", "shared", "auto"} {
		operator.Apply(t, strings.Replace(narrowAlpha, "LAYOUT", layout, 1))
		alpha, beta := enter(t, "alpha"), enter(t, "beta")
		for name := range map[string]bool{"alpha": true, "beta": true} {
			if pid := operator.PID(t, name); pids[name] == "" {
				pids[name] = pid
			} else {
				operator.Same(t, "pid of "+name+" with layout "+layout, pid, pids[name])
			}
		}
		tables := operator.Must(t, "nft", "list", "tables")
		for table, there := range map[string]bool{"opencoded-egress": layout == "shared", "opencode-alpha": layout != "shared", "opencode-beta": layout != "shared"} {
			if strings.Contains(tables+"\n", "inet "+table+"\n") != there {
				t.Errorf("layout %s: %s", layout, tables)
			}
		}
		operator.NothingToDo(t)

		operator.Same(t, layout+": port that is allowed", alpha.must(t, fetch(allowed4, 9000)), "hello")
		operator.Same(t, layout+": port that is allowed, IPv6", alpha.must(t, fetch(allowed6, 9000)), "hello")
		alpha.refused(t, fetch(allowed4, 9001), "curl: (7)")
		alpha.refused(t, fetch(other4, 9000), "curl: (7)")
		operator.Same(t, layout+": another local server", alpha.must(t, fetch("127.0.0.1", 9100)), "hello")
		alpha.refused(t, fetch("127.0.0.1", 53), "curl: (7)")
		operator.Same(t, layout+": beta and port 53", beta.must(t, fetch("127.0.0.1", 53)), "hello")
		reached := received(t, other4)
		alpha.run(t, "echo x > /dev/udp/"+other4+"/53; echo x > /dev/udp/"+other4+"/54")
		operator.Same(t, layout+": datagrams of alpha that arrived", received(t, other4)-reached, 1)

		before := operator.Status(t, "beta").Reported
		operator.Same(t, layout+": beta, which is only reported on", beta.must(t, fetch(other4, 9000)), "hello")
		if now := operator.Status(t, "beta").Reported; now <= before {
			t.Errorf("%s: %d packets of beta counted before, %d after", layout, before, now)
		}
		operator.Contains(t, "kernel log", operator.Must(t, "dmesg"), "opencode-beta-would-block: IN= OUT=host0")
		said(t, layout)
	}
}

// said: `net show` and `net test` say what holds, and --live sees the same.
func said(t *testing.T, layout string) {
	list := operator.Must(t, "opencoded", "net", "show")
	operator.Contains(t, "net show", list, "restricted")
	operator.Contains(t, "net show", list, "reported")
	operator.Contains(t, "net show alpha", operator.Must(t, "opencoded", "net", "show", "alpha"), "2001:db8:1::/64 . 9000")
	for _, c := range []struct{ args, outcome, live string }{
		{"alpha " + allowed4 + ":9000", "passes: allowed by 192.0.2.2:9000", "connected"},
		{"alpha " + allowed4 + ":9001", "blocked: no entry of the allowlist covers it", "no route to host"},
		{"alpha 127.0.0.1:8702", "blocked: the server of instance beta", "no route to host"},
		{"alpha 127.0.0.1:53", "blocked: network_isolation.dns is false", "no route to host"},
		{"alpha --udp " + other4 + ":53", "passes: allowed by 198.51.100.2:53/udp", "sent"},
		{"beta " + other4 + ":9000", "reported: no entry", "connected"},
		{"beta " + metadata + ":80", "blocked: the cloud's metadata service", "no answer"},
	} {
		args := append([]string{"net", "test"}, strings.Fields(c.args)...)
		if layout == "auto" {
			args = append(args, "--live")
		}
		out := operator.Must(t, "opencoded", args...)
		operator.Contains(t, layout+": net test "+c.args, out, c.outcome)
		if layout == "auto" {
			operator.Contains(t, "net test --live "+c.args, out, "tried: "+c.live)
		}
	}
	if layout == "auto" {
		operator.Must(t, "nft", "add", "rule", "inet", "opencode-alpha", "egress", "accept")
		r := operator.Command(t, "opencoded", "net", "show", "alpha")
		operator.Same(t, "exit code of net show", r.Code, 3)
		operator.Contains(t, "net show", r.Stderr, "rule unexpected: accept")
		operator.Must(t, "opencoded", "apply")
	}
}
