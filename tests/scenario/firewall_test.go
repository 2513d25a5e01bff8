package scenario

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/standin"
	"github.com/opencoded/opencoded/tests/tier"
)

// TestFirewalls runs beside the programs that Debian has to manage the packet
// filter. They are in a root of their own, so that no host gets a firewall from
// running these tests.
func TestFirewalls(t *testing.T) {
	tier.Need(t, "firewalls", tier.Machine())
	opts := machine.Options{Name: "firewalls"}
	if !machine.Inside() {
		root, err := tier.GuestRoot(cmp.Or(os.Getenv("FIREWALLS_SUITE"), "bookworm"), "firewalld", "ufw", "iptables", "docker.io")
		tier.Need(t, "firewalls", err)
		opts.Root = root
	}
	ports := opts
	if !machine.Inside() {
		opts.Binds = binds(t)
		// Any server will do where a client of another host only has to reach it.
		ports.Binds = []machine.Bind{operator.Opencoded(t), standin.Build(t, "/usr/local/bin/opencode")}
	}
	for _, s := range []struct {
		name string
		opts machine.Options
		run  func(t *testing.T)
	}{
		{"port-firewalld", ports, portFirewalld},
		{"port-ufw", ports, portUFW},
		{"port-unmanaged", ports, portUnmanaged},
		{"neighbours", opts, neighbours},
	} {
		t.Run(s.name, func(t *testing.T) { machine.Run(t, s.opts, s.run) })
	}
}

// served is one instance, web, that clients of other hosts are meant to reach.
func served(lines ...string) string {
	listen := `listen = { address = "0.0.0.0", port = 8701 }`
	if slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "listen") }) {
		listen = ""
	}
	return "version = 1\n[instances.web]\ndirectory = \"/srv/web\"\n" + listen + "\n" + strings.Join(lines, "\n") + "\n"
}

const (
	open = "open_firewall = true"
	none = "version = 1\n"
)

// reached asserts whether a client of another host reaches a port of this one.
func reached(t *testing.T, what, address string, port int, want bool) {
	t.Helper()
	r := operator.Command(t, "ip", "netns", "exec", "world", "curl", "-sS", "-m", "1", "-o", "/dev/null", fmt.Sprintf("http://%s:%d/", bracket(address), port))
	if (r.Code == 0) != want {
		t.Errorf("%s: reached %s port %d: %v, want %v: %v", what, address, port, r.Code == 0, want, r)
	}
}

// drifts asserts that status tells of a difference, and applies.
func drifts(t *testing.T, what, want string) operator.Result {
	t.Helper()
	if d := operator.Status(t, "web").Drift; !slices.Contains(d, want) {
		t.Errorf("%s: drift %q, want %q", what, d, want)
	}
	r := operator.Command(t, "opencoded", "apply")
	operator.Same(t, what+": apply, exit code", r.Code, 0)
	operator.NothingToDo(t)
	return r
}

// portFirewalld: open_firewall opens the port in the zone where clients arrive, in
// force and saved alike, and takes back nothing but that.
func portFirewalld(t *testing.T) {
	makeWorld(t)
	operator.Sh(t, `
systemctl start firewalld
firewall-cmd -q --permanent --add-port=9100/tcp
firewall-cmd -q --permanent --add-rich-rule='rule family="ipv4" port port="8701" protocol="tcp" source address="203.0.113.0/24" accept'
firewall-cmd -q --reload
firewall-cmd -q --add-port=9101/tcp`)
	_, before := zones(t)
	sameZones := func(what string, rules int) {
		t.Helper()
		ours, theirs := zones(t)
		operator.Same(t, what+": rules of others", theirs, before)
		operator.Same(t, what+": rules of opencoded's, in force and saved", strings.Count(ours, "\n"), rules)
	}

	operator.Apply(t, served())
	reached(t, "not asked for", host4, 8701, false)
	sameZones("not asked for", 0)
	pid := operator.PID(t, "web")

	operator.Write(t, operator.Inventory, served(open), 0o644)
	planned := operator.Must(t, "opencoded", "plan")
	operator.Contains(t, "plan", planned, "create   firewall   firewalld zone public")
	operator.Contains(t, "plan", planned, `+rule family="ipv4" port port="8701" protocol="tcp" log prefix="opencode-web-opened: "`)
	operator.Apply(t, served(open))
	operator.NothingToDo(t)
	operator.Same(t, "pid", operator.PID(t, "web"), pid)
	reached(t, "opened", host4, 8701, true)
	reached(t, "another port", host4, 8702, false)
	sameZones("opened", 2)

	// In force, not saved by the administrator: a reload of ours would have lost it.
	operator.Contains(t, "ports in force", operator.Must(t, "firewall-cmd", "--list-ports"), "9101/tcp")
	operator.Must(t, "firewall-cmd", "--reload")
	operator.NothingToDo(t)
	reached(t, "after a reload", host4, 8701, true)
	operator.Must(t, "systemctl", "restart", "firewalld")
	operator.NothingToDo(t)
	operator.Must(t, "firewall-cmd", "--add-port=9101/tcp")

	driftFirewalld(t)

	operator.Apply(t, served(open, `listen = { address = "0.0.0.0", port = 8702 }`))
	reached(t, "moved", host4, 8702, true)
	sameZones("moved", 2)
	operator.Apply(t, served(open, `listen = { address = "`+host4+`", port = 8702 }`))
	reached(t, "on one address", host4, 8702, true)
	operator.Apply(t, served(open, `listen = { address = "127.0.0.1", port = 8702 }`))
	sameZones("on loopback", 0)

	for what, last := range map[string]string{"switched off": served(), "disabled": served(open, "enable = false"), "removed": none} {
		operator.Apply(t, served(open))
		operator.Apply(t, last)
		sameZones(what, 0)
		reached(t, what, host4, 8701, false)
	}
	operator.NothingToDo(t)

	// Not running, it is not there: nothing to open, nothing to wait for.
	operator.Must(t, "systemctl", "stop", "firewalld")
	operator.Apply(t, served(open))
	operator.NothingToDo(t)
	reached(t, "no firewall", host4, 8701, true)
	operator.Must(t, "systemctl", "start", "firewalld")
	drifts(t, "firewalld came", "create firewall firewalld zone public")
}

// driftFirewalld: what somebody takes away of either half comes back, and the rule
// follows the interface into another zone.
func driftFirewalld(t *testing.T) {
	ours, _ := zones(t)
	rule, _, _ := strings.Cut(ours, "\n")
	operator.Must(t, "firewall-cmd", "--remove-rich-rule", rule)
	reached(t, "taken out of force", host4, 8701, false)
	drifts(t, "taken out of force", "change firewall firewalld zone public")
	reached(t, "in force again", host4, 8701, true)
	operator.Must(t, "firewall-cmd", "--permanent", "--remove-rich-rule", rule)
	drifts(t, "no longer saved", "change firewall firewalld zone public")

	operator.Sh(t, "firewall-cmd -q --zone=internal --change-interface=host0; firewall-cmd -q --permanent --zone=internal --change-interface=host0")
	one := served(open, `listen = { address = "`+host4+`", port = 8701 }`)
	operator.Apply(t, one)
	operator.NothingToDo(t)
	reached(t, "in the zone of the interface", host4, 8701, true)
	operator.Sh(t, "firewall-cmd -q --zone=internal --remove-interface=host0; firewall-cmd -q --permanent --zone=internal --remove-interface=host0")
	drifts(t, "interface in another zone", "remove firewall firewalld zone internal")
	reached(t, "followed the interface", host4, 8701, true)
	operator.Apply(t, served(open))
}

// zones is what the zones of firewalld hold, in force and saved: opencoded's
// rules, and everything else.
func zones(t *testing.T) (ours, theirs string) {
	t.Helper()
	all := operator.Sh(t, "firewall-cmd --list-all-zones; firewall-cmd --permanent --list-all-zones")
	var out strings.Builder
	for l := range strings.Lines(all) {
		if strings.Contains(l, "opencode-") {
			out.WriteString(strings.TrimSpace(l) + "\n")
		}
	}
	return out.String(), without(all, "opencode-")
}

func without(text, word string) string {
	var out strings.Builder
	for l := range strings.Lines(text) {
		if !strings.Contains(l, word) {
			out.WriteString(l)
		}
	}
	return out.String()
}

// portUFW: the same with ufw, which takes rules that differ only in their comment
// for one.
func portUFW(t *testing.T) {
	makeWorld(t)
	operator.Sh(t, "ufw allow 22/tcp; ufw limit 9002/tcp comment 'of the administrator'; ufw --force enable")
	before := ufwRules(t)

	operator.Apply(t, served())
	reached(t, "not asked for", host4, 8701, false)
	operator.Apply(t, served(open))
	operator.NothingToDo(t)
	reached(t, "opened", host4, 8701, true)
	operator.Same(t, "rules of others", ufwRules(t), before)
	operator.Contains(t, "ufw status", operator.Must(t, "ufw", "status"), "# opencoded: web")
	operator.Must(t, "ufw", "reload")
	operator.NothingToDo(t)
	reached(t, "after a reload", host4, 8701, true)
	operator.Must(t, "ufw", "delete", "allow", "8701/tcp")
	drifts(t, "deleted", "create firewall ufw")

	operator.Apply(t, served(open, `listen = { address = "`+host4+`", port = 8702 }`))
	reached(t, "moved", host4, 8702, true)
	operator.Same(t, "rules of others after a move", ufwRules(t), before)

	// Inactive, it keeps what it has and gets nothing new.
	operator.Must(t, "ufw", "disable")
	operator.NothingToDo(t)
	operator.Apply(t, served(open))
	operator.NothingToDo(t)
	operator.Same(t, "rules of ufw while it is inactive", operator.Must(t, "ufw", "show", "added"), before)
	operator.Must(t, "ufw", "--force", "enable")
	drifts(t, "ufw came", "create firewall ufw")

	operator.Apply(t, none)
	operator.Same(t, "removed: rules", operator.Must(t, "ufw", "show", "added"), before)
	operator.NothingToDo(t)
	reached(t, "removed", host4, 8701, false)

	// A purge of an instance whose removal was never applied closes its port too.
	operator.Apply(t, served(open))
	operator.Write(t, operator.Inventory, none, 0o644)
	operator.Must(t, "opencoded", "purge", "--yes", "web")
	operator.Same(t, "purged: rules", operator.Must(t, "ufw", "show", "added"), before)

	ufwOfOthers(t)
}

// ufwOfOthers: a rule of the administrator's for the same port is never taken over,
// whatever it says.
func ufwOfOthers(t *testing.T) {
	for _, action := range []string{"allow", "deny"} {
		operator.Must(t, "ufw", action, "8701/tcp", "comment", "mine")
		theirs := operator.Must(t, "ufw", "show", "added")
		r := operator.Apply(t, served(open))
		operator.NothingToDo(t)
		operator.Same(t, "rules of ufw", operator.Must(t, "ufw", "show", "added"), theirs)
		reached(t, action, host4, 8701, action == "allow")
		if action == "deny" {
			operator.Contains(t, "apply", r.Stderr, `ufw has the rule "deny 8701/tcp" of somebody else`)
		}
		operator.Apply(t, none)
		operator.Same(t, "rules of ufw after removal", operator.Must(t, "ufw", "show", "added"), theirs)
	}
}

func ufwRules(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(without(operator.Must(t, "ufw", "show", "added"), "opencoded: "))
}

// portUnmanaged: where nobody can be asked, the very rule is named, works, and once
// it is there nothing is said any more.
func portUnmanaged(t *testing.T) {
	makeWorld(t)
	operator.Sh(t, `nft -f - <<EOF
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		iif lo accept
		ct state established,related accept
		meta l4proto ipv6-icmp accept
	}
}
EOF`)
	before := others(t)
	operator.Same(t, "apply without open_firewall", operator.Apply(t, served()).Stderr, "")
	r := operator.Apply(t, served(open))
	operator.Contains(t, "apply", r.Stderr, "instances.web.open_firewall: neither firewalld nor ufw manages table inet filter, whose chain input drops what it does not accept")
	operator.Same(t, "rules of others", others(t), before)
	operator.NothingToDo(t)
	reached(t, "with a warning", host4, 8701, false)

	_, rule, _ := strings.Cut(r.Stderr, "(nft ")
	rule, _, _ = strings.Cut(rule, ";")
	operator.Sh(t, "nft "+rule)
	reached(t, "with the rule", host4, 8701, true)
	operator.Same(t, "apply with the rule", operator.Command(t, "opencoded", "apply").Stderr, "")
	operator.Apply(t, none)
	operator.Contains(t, "table of somebody else", operator.Must(t, "nft", "list", "table", "inet", "filter"), "opencoded: web")
}
