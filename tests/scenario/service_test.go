package scenario

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// servedTwo are two instances that the service looks after closely.
const servedTwo = `version = 1
[host]
operators = ["alice", "@agents"]
[defaults]
health = { interval = "1s", timeout = "1s", failures = 2 }
[instances.alpha]
directory = "/srv/alpha"
listen.port = 8701
config_layers = ["layer.toml"]
environment_file = "/run/handed/over/alpha.env"
[instances.beta]
directory = "/srv/beta"
listen.port = 8702
`

func journalOf(t *testing.T, match ...string) string {
	t.Helper()
	return operator.Must(t, "journalctl", append([]string{"-u", "opencoded", "-o", "cat", "--no-pager"}, match...)...)
}

func statusText(t *testing.T) string {
	t.Helper()
	return operator.Must(t, "systemctl", "show", "-P", "StatusText", "opencoded")
}

func healthy(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		operator.Eventually(t, name+" is healthy", func() bool {
			r := operator.Command(t, "opencoded", "status", "--json")
			return r.Code == 0 && strings.Contains(r.Stdout, `"instance": "`+name+`"`) && operator.Status(t, name).State == "healthy"
		})
	}
}

// hostService: opencoded.service makes the host as the inventory says, and keeps it so.
func hostService(t *testing.T) {
	operator.Must(t, "systemctl", "start", "opencoded")
	operator.Contains(t, "status without an inventory", statusText(t), "there is no inventory at /etc/opencode/instances.toml")

	// Secrets come as a link to a directory that is replaced as a whole.
	operator.Sh(t, `mkdir -p /run/handed.1 /run/handed; ln -s /run/handed.1 /run/handed/over; echo TOKEN=one > /run/handed.1/alpha.env; chmod 600 /run/handed.1/alpha.env`)
	operator.Write(t, "/etc/opencode/layer.toml", "share = \"disabled\"\n", 0o644)
	operator.Write(t, operator.Inventory, servedTwo, 0o644)
	healthy(t, "alpha", "beta")
	operator.Eventually(t, "the service says so", func() bool { return strings.Contains(statusText(t), "2 of 2 instances healthy") })
	operator.Contains(t, "journal of alpha", journalOf(t, "INSTANCE=alpha", "ACTION=create"), "instance created")
	operator.Lacks(t, "journal of alpha", journalOf(t, "INSTANCE=alpha"), `"beta"`)
	operator.NothingToDo(t)

	brokenInventory(t)
	changesAreApplied(t)
	driftIsRepaired(t)
	hangsAreEnded(t)
	failuresStayAlone(t)
	stoppedStaysSo(t)
	operatorsMay(t)
	metricsAreServed(t)
	changesWait(t)
}

// brokenInventory: it changes nothing, is told everywhere, and is mended by a file that is renamed over it.
func brokenInventory(t *testing.T) {
	alpha, beta := operator.PID(t, "alpha"), operator.PID(t, "beta")
	operator.Write(t, operator.Inventory, strings.Replace(servedTwo, "listen.port = 8702", "listen.prot = 8702", 1), 0o644)
	const mistake = `instances.toml:13:8: unknown key "prot" in instances.beta.listen`
	operator.Eventually(t, "the service tells systemd", func() bool { return strings.Contains(statusText(t), mistake) })
	if r := operator.Command(t, "systemctl", "reload", "opencoded"); r.Code == 0 {
		t.Errorf("a reload with a broken inventory succeeds: %v", r)
	}
	r := operator.Command(t, "opencoded", "reload")
	operator.Same(t, "opencoded reload, exit code", r.Code, 1)
	operator.Contains(t, "opencoded reload", r.Stderr, mistake)
	operator.Contains(t, "opencoded status", operator.Command(t, "opencoded", "status").Stdout, "opencoded.service: cannot use the inventory, it keeps that of")
	operator.Contains(t, "journal", journalOf(t), mistake)
	// The last good one is still kept.
	operator.Sh(t, "echo '# edited' >> /etc/systemd/system/opencode-beta.service")
	operator.Eventually(t, "the unit is put back", func() bool {
		return !strings.Contains(operator.Read(t, "/etc/systemd/system/opencode-beta.service"), "# edited")
	})
	operator.Must(t, "systemctl", "restart", "opencoded")
	operator.Contains(t, "status after a start with it", statusText(t), "running instances stay as they are")
	operator.Same(t, "alpha", operator.PID(t, "alpha"), alpha)
	operator.Same(t, "beta", operator.PID(t, "beta"), beta)

	operator.Write(t, operator.Inventory+".new", servedTwo, 0o644)
	operator.Must(t, "mv", operator.Inventory+".new", operator.Inventory)
	operator.Eventually(t, "the mended one is in force", func() bool { return strings.Contains(statusText(t), "2 of 2 instances healthy") })
	operator.Must(t, "systemctl", "reload", "opencoded")
	operator.Must(t, "systemctl", "kill", "-s", "HUP", "opencoded")
	operator.Eventually(t, "SIGHUP is a reload", func() bool {
		return strings.Contains(journalOf(t), `"reason": "reload"`) && operator.Must(t, "systemctl", "is-active", "opencoded") == "active"
	})
	operator.Same(t, "alpha", operator.PID(t, "alpha"), alpha)
}

// changesAreApplied: of a layer, and of a secret behind a link; each restarts whom it concerns, and the journal says why.
func changesAreApplied(t *testing.T) {
	beta := operator.PID(t, "beta")
	for _, c := range []struct{ change, reason, why string }{
		{`printf 'share = "auto"\n' > /etc/opencode/layer.toml`, "/etc/opencode/layer.toml changed", "configuration changed"},
		{"mkdir /run/handed.2; echo TOKEN=two > /run/handed.2/alpha.env; chmod 600 /run/handed.2/alpha.env; ln -sfn /run/handed.2 /run/handed/over",
			"/run/handed/over/alpha.env changed", "environment file changed"},
	} {
		alpha := operator.PID(t, "alpha")
		operator.Sh(t, c.change)
		operator.Eventually(t, "alpha restarts after "+c.change, func() bool {
			pid := operator.Must(t, "systemctl", "show", "-P", "MainPID", "opencode-alpha")
			return pid != alpha && pid != "0"
		})
		healthy(t, "alpha")
		operator.Contains(t, "journal", journalOf(t), c.reason)
		operator.Eventually(t, "the journal says why", func() bool { return strings.Contains(journalOf(t, "INSTANCE=alpha", "ACTION=restart"), c.why) })
	}
	operator.Same(t, "beta", operator.PID(t, "beta"), beta)
	operator.NothingToDo(t)
}

// driftIsRepaired: files, units and accounts, without a restart, each with a line of its own.
func driftIsRepaired(t *testing.T) {
	pid := operator.PID(t, "beta")
	const unit, config = "/etc/systemd/system/opencode-beta.service", "/var/lib/opencoded/instances/beta/config/opencode.json"
	for change, repaired := range map[string]func() bool{
		"sed -i s/NoNewPrivileges=yes/NoNewPrivileges=no/ " + unit: func() bool { return strings.Contains(operator.Read(t, unit), "NoNewPrivileges=yes") },
		"rm " + config:        func() bool { return operator.Command(t, "test", "-s", config).Code == 0 },
		"chmod 666 " + config: func() bool { return operator.Must(t, "stat", "-c", "%a", config) == "640" },
	} {
		operator.Sh(t, change)
		operator.Eventually(t, "it is repaired after "+change, repaired)
	}
	operator.Eventually(t, "nothing is left to do", func() bool { return operator.Command(t, "opencoded", "plan", "--exit-code").Code == 0 })
	for _, part := range []string{"drift repaired", "unit " + unit, "file " + config} {
		operator.Contains(t, "journal", journalOf(t, "INSTANCE=beta"), part)
	}
	operator.Same(t, "beta", operator.PID(t, "beta"), pid)
}

// hangsAreEnded: a server that holds its port open and does not answer.
func hangsAreEnded(t *testing.T) {
	alpha, beta := operator.PID(t, "alpha"), operator.PID(t, "beta")
	operator.Must(t, "kill", "-STOP", alpha)
	operator.Eventually(t, "alpha is another process", func() bool {
		pid := operator.Must(t, "systemctl", "show", "-P", "MainPID", "opencode-alpha")
		return pid != alpha && pid != "0"
	})
	healthy(t, "alpha")
	operator.Contains(t, "journal of alpha", journalOf(t, "INSTANCE=alpha", "ACTION=restart"), "the server does not answer: restarting it")
	operator.Same(t, "beta", operator.PID(t, "beta"), beta)
}

// failuresStayAlone: an instance that does not come up is told, does not touch the others, is not tried again as it is,
// and comes up when it is mended.
func failuresStayAlone(t *testing.T) {
	alpha := operator.PID(t, "alpha")
	const broken = servedTwo + "[instances.gamma]\ndirectory = \"/srv/gamma\"\nlisten.port = 8703\nhooks.pre_init = \"false\"\n"
	operator.Write(t, operator.Inventory, broken, 0o644)
	operator.Eventually(t, "the service says so", func() bool { return strings.Contains(statusText(t), "Did not come through: gamma.") })
	operator.Contains(t, "status", operator.Must(t, "opencoded", "status"), "did not come through: gamma")
	starts := func() string {
		return operator.Sh(t, "journalctl --no-pager -o cat -u opencode-gamma-setup | grep -c ^Starting")
	}
	before := starts()
	operator.Must(t, "systemctl", "reload", "opencoded")
	operator.Same(t, "attempts after a reload", starts(), before)
	operator.Write(t, operator.Inventory, strings.Replace(broken, `"false"`, `"true"`, 1), 0o644)
	healthy(t, "gamma")
	operator.Eventually(t, "the service says so", func() bool { return strings.Contains(statusText(t), "3 of 3 instances healthy") })
	operator.Write(t, operator.Inventory, servedTwo, 0o644)
	operator.Eventually(t, "gamma is gone", func() bool { return operator.Command(t, "systemctl", "cat", "opencode-gamma").Code != 0 })
	operator.Same(t, "alpha", operator.PID(t, "alpha"), alpha)
}

// stoppedStaysSo: what somebody has stopped is not started by the service, whatever else it does.
func stoppedStaysSo(t *testing.T) {
	operator.Must(t, "opencoded", "stop", "beta")
	operator.Must(t, "systemctl", "reload", "opencoded")
	operator.Same(t, "beta", operator.Must(t, "systemctl", "show", "-P", "MainPID", "opencode-beta"), "0")
	operator.Must(t, "systemctl", "restart", "opencoded")
	operator.Same(t, "beta", operator.Must(t, "systemctl", "show", "-P", "MainPID", "opencode-beta"), "0")
	operator.Same(t, "alpha", operator.Status(t, "alpha").State, "healthy")
	operator.Must(t, "opencoded", "start", "beta")
	healthy(t, "beta")
	r := operator.Command(t, "opencoded", "restart", "beta", "gamma")
	operator.Same(t, "restart of one that there is not, exit code", r.Code, 1)
	operator.Contains(t, "restart", r.Stderr, `there is no instance "gamma"`)
	healthy(t, "beta")
}

// operatorsMay: who is named by user or by group, and nobody else; and the password stays where it belongs.
func operatorsMay(t *testing.T) {
	operator.Sh(t, "groupadd agents; useradd -m alice; useradd -m bob; useradd -m -G agents carol")
	as := func(user string, args ...string) operator.Result {
		return operator.Command(t, "setpriv", append([]string{"--reuid", user, "--regid", user, "--init-groups", "env", "HOME=/home/" + user, "opencoded"}, args...)...)
	}
	for _, user := range []string{"alice", "carol"} {
		before := operator.PID(t, "beta")
		operator.Same(t, user+" restarts, exit code", as(user, "restart", "beta").Code, 0)
		if operator.PID(t, "beta") == before {
			t.Errorf("%s did not restart beta", user)
		}
		healthy(t, "beta")
		operator.Contains(t, "logs for "+user, as(user, "logs", "beta").Stdout, "opencode server listening")
		operator.Same(t, "url for "+user, as(user, "url", "beta").Stdout, "http://127.0.0.1:8702\n")
	}
	operator.Contains(t, "journal", journalOf(t, "INSTANCE=beta", "ACTION=restart"), `"by": "alice"`)
	for _, args := range [][]string{{"stop", "beta"}, {"logs", "beta"}, {"url", "beta"}, {"password", "beta"}, {"password", "beta", "--rotate"}, {"attach", "beta"}} {
		r := as("bob", args...)
		operator.Same(t, "bob: "+strings.Join(args, " ")+", exit code", r.Code, 1)
		operator.Contains(t, "bob", r.Stderr, "bob is no operator")
	}
	operator.Contains(t, "alice reloads", as("alice", "reload").Stderr, "only root may do this")

	password := strings.TrimSpace(as("alice", "password", "alpha").Stdout)
	if len(password) < 20 {
		t.Fatalf("the password for alice is %q", password)
	}
	answers := func(password string) bool {
		return operator.Command(t, "curl", "-sf", "-m", "5", "-u", "opencode:"+password, "http://127.0.0.1:8701/config").Code == 0
	}
	if !answers(password) {
		t.Error("the password does not open alpha")
	}
	next := strings.TrimSpace(as("carol", "password", "alpha", "--rotate").Stdout)
	healthy(t, "alpha")
	if next == password || answers(password) || !answers(next) {
		t.Errorf("after a rotation: another password: %v, the old one opens: %v, the new one: %v", next != password, answers(password), answers(next))
	}
	operator.NothingToDo(t)

	// A terminal, as alice.
	operator.Sh(t, `(setsid script -qc "setpriv --reuid alice --regid alice --init-groups env HOME=/home/alice TERM=xterm opencoded attach alpha" /dev/null </dev/null >/dev/null 2>&1 &)`)
	pid := ""
	operator.Eventually(t, "alice attaches", func() bool {
		pid = strings.TrimSpace(operator.Command(t, "pgrep", "-u", "alice", "-f", "attach http://127.0.0.1:8701").Stdout)
		return pid != ""
	})
	pid = strings.Fields(pid)[0]
	operator.Contains(t, "environment of the terminal", operator.Sh(t, "tr '\\0' '\\n' < /proc/"+pid+"/environ"), "OPENCODE_SERVER_PASSWORD="+next)
	operator.Lacks(t, "command lines", operator.Sh(t, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"), next)
	operator.Sh(t, "pkill -u alice || true")
	operator.Lacks(t, "journal", operator.Must(t, "journalctl", "--no-pager", "-o", "export"), next)
}

// metricsAreServed to root, and as many as there are instances.
func metricsAreServed(t *testing.T) {
	scrape := func() string {
		return operator.Must(t, "curl", "-sf", "--unix-socket", "/run/opencoded/metrics.sock", "http://x/metrics")
	}
	operator.Eventually(t, "both are up", func() bool {
		text := scrape()
		return strings.Contains(text, `opencoded_instance_up{instance="alpha"} 1`) && strings.Contains(text, `opencoded_instance_up{instance="beta"} 1`)
	})
	operator.Sh(t, "chmod 666 /var/lib/opencoded/instances/beta/config/opencode.json; echo '# edited' >> /etc/systemd/system/opencode-beta.service")
	operator.Eventually(t, "repairs are counted", func() bool {
		text := scrape()
		return strings.Contains(text, `opencoded_drift_repairs_total{kind="unit"} 1`) && strings.Contains(text, `opencoded_drift_repairs_total{kind="file"} 1`)
	})
	text := scrape()
	for _, part := range []string{`opencoded_applies_total{result="success"}`, "opencoded_reconcile_duration_seconds_bucket", "opencoded_inventory_valid 1",
		`opencoded_instance_egress_packets_total{instance="alpha",verdict="blocked"} 0`, `opencoded_instance_restarts_total{by="opencoded",instance="alpha"}`} {
		operator.Contains(t, "metrics", text, part)
	}
	operator.Lacks(t, "memory", text, `opencoded_instance_memory_bytes{instance="alpha"} 0`)
	operator.Same(t, "series of an instance", strings.Count(text, `instance="alpha"`), strings.Count(text, `instance="beta"`))
	operator.Same(t, "as somebody else, exit code of curl", operator.Command(t, "setpriv", "--reuid", "alice", "--clear-groups",
		"curl", "-s", "--unix-socket", "/run/opencoded/metrics.sock", "http://x/metrics").Code, 7)
	operator.Write(t, operator.Inventory, strings.Replace(servedTwo, "[host]", "[host]\nmetrics_listen = \"127.0.0.1:9464\"", 1), 0o644)
	operator.Eventually(t, "metrics are on the network", func() bool {
		return strings.Contains(operator.Command(t, "curl", "-sf", "http://127.0.0.1:9464/metrics").Stdout, "opencoded_build_info")
	})
	operator.Write(t, operator.Inventory, servedTwo, 0o644)
	operator.Eventually(t, "and no longer", func() bool { return operator.Command(t, "curl", "-sf", "http://127.0.0.1:9464/metrics").Code != 0 })
}

// changesWait with auto_apply = false, drift does not.
func changesWait(t *testing.T) {
	waiting := strings.Replace(servedTwo, "[host]", "[host]\nauto_apply = false", 1)
	operator.Apply(t, waiting)
	operator.Must(t, "systemctl", "reload", "opencoded")
	beta := operator.PID(t, "beta")
	operator.Write(t, operator.Inventory, waiting+"environment.GREETING = \"hello\"\n", 0o644)
	operator.Eventually(t, "the change waits", func() bool { return strings.Contains(statusText(t), "wait for `opencoded apply`") })
	operator.Contains(t, "status", operator.Must(t, "opencoded", "status"), "wait for `opencoded apply`")
	operator.Same(t, "beta", operator.PID(t, "beta"), beta)
	operator.Must(t, "opencoded", "apply")
	operator.Eventually(t, "nothing waits", func() bool { return !strings.Contains(statusText(t), "wait for") })
	if operator.PID(t, "beta") == beta {
		t.Error("beta was not restarted by the apply")
	}
	const unit = "/etc/systemd/system/opencode-beta.service"
	operator.Sh(t, "echo '# edited' >> "+unit)
	operator.Eventually(t, "drift is repaired all the same", func() bool { return !strings.Contains(operator.Read(t, unit), "# edited") })
}

// hostServiceUpgrades: neither a new opencoded nor a new opencode restarts anything; a hung service is replaced.
func hostServiceUpgrades(t *testing.T) {
	operator.Sh(t, "cp /usr/local/bin/opencode /opt/opencode")
	inventory := strings.Replace(twoInstances, "[defaults]", "[host]\nopencode = \"/opt/opencode\"\n[defaults]", 1)
	operator.Write(t, operator.Inventory, inventory, 0o644)
	operator.Sh(t, "mkdir -p /run/systemd/system/opencoded.service.d; printf '[Service]\\nWatchdogSec=4s\\n' > /run/systemd/system/opencoded.service.d/test.conf; systemctl daemon-reload")
	operator.Must(t, "systemctl", "start", "opencoded")
	healthy(t, "alpha", "beta")
	pids := func() string { return operator.PID(t, "alpha") + " " + operator.PID(t, "beta") }
	before := pids()

	// Another opencoded, from elsewhere, which renders its own path into the units.
	operator.Sh(t, "cp /usr/local/bin/opencoded /opt/opencoded; mkdir -p /run/systemd/system/opencoded.service.d")
	operator.Sh(t, "printf '[Service]\\nExecStart=\\nExecStart=/opt/opencoded run\\n' > /run/systemd/system/opencoded.service.d/upgrade.conf; systemctl daemon-reload; systemctl restart opencoded")
	operator.Contains(t, "unit of alpha", operator.Read(t, "/etc/systemd/system/opencode-alpha.service"), "/opt/opencoded")
	operator.Same(t, "processes after an upgrade of opencoded", pids(), before)
	operator.Contains(t, "plan", operator.Must(t, "/opt/opencoded", "plan"), "alpha: restart to run what this opencoded renders\nbeta: restart to run what this opencoded renders\n")

	// Another opencode at the same path.
	operator.Sh(t, "cp /opt/opencode /opt/opencode.new; mv /opt/opencode.new /opt/opencode")
	operator.Eventually(t, "the service has noticed", func() bool { return strings.Contains(journalOf(t), "/opt/opencode changed") })
	operator.Contains(t, "plan", operator.Must(t, "/opt/opencoded", "plan"), "alpha: restart to run what this opencoded renders, opencode")
	operator.Contains(t, "status", operator.Must(t, "/opt/opencoded", "status"), "restart to run")
	operator.Same(t, "processes after an upgrade of opencode", pids(), before)
	r := operator.Command(t, "/opt/opencoded", "apply", "--restart-outdated")
	operator.Same(t, "apply --restart-outdated, exit code", r.Code, 0)
	for _, name := range []string{"alpha", "beta"} {
		operator.Lacks(t, "processes after the restart", before, operator.PID(t, name))
	}
	started := func(name string) string {
		return operator.Must(t, "systemctl", "show", "-P", "ActiveEnterTimestampMonotonic", "opencode-"+name)
	}
	var a, b int64
	fmt.Sscan(started("alpha")+" "+started("beta"), &a, &b)
	if a >= b {
		t.Errorf("alpha started at %d, beta at %d: not one after the other", a, b)
	}
	operator.Lacks(t, "plan", operator.Must(t, "/opt/opencoded", "plan"), "restart to run")

	before = pids()
	daemon := operator.Must(t, "systemctl", "show", "-P", "MainPID", "opencoded")
	operator.Must(t, "kill", "-STOP", daemon)
	operator.Eventually(t, "a hung service is replaced", func() bool {
		pid := operator.Must(t, "systemctl", "show", "-P", "MainPID", "opencoded")
		return pid != daemon && pid != "0" && strings.Contains(statusText(t), "2 of 2 instances healthy")
	})
	operator.Same(t, "processes after that", pids(), before)
}
