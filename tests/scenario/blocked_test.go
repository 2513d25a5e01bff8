package scenario

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

const learner = `
version = 1
[instances.learner]
directory = "/srv/learner"
listen.port = 8701
`

const learning = learner + `
[instances.learner.network_isolation]
enable = true
mode = "report"
log_rate = "1000/second"
outbound_allow_cidrs = ["192.0.2.0/24"]
`

// blockedReport is what `opencoded blocked --json` prints.
type blockedReport struct {
	Instances []struct {
		Instance string
		Blocked  int `json:"blocked_packets"`
		Reported int `json:"reported_packets"`
		Logged   int `json:"logged_packets"`
		Attempts []struct {
			Address, Protocol string
			Reported          bool
			Port, Logged      int
			Names, Processes  []string
		}
	}
}

// blockedPolicy: a run in report mode names what it reached, and the entries that
// come of it let exactly that through when they are enforced.
func blockedPolicy(t *testing.T) {
	makeWorld(t)
	operator.Sh(t, `for n in 11 12 13 14; do ip -n world addr add 198.51.100.$n/24 dev world0; done
echo "198.51.100.2 tracker.example" >> /etc/hosts`)
	serve(t, "world", "web [::]:9000 [::]:9001 [::]:80")
	operator.Apply(t, learning)
	a := enter(t, "learner")
	operator.Contains(t, "before anything", operator.Must(t, "opencoded", "blocked", "learner"), "Nothing was blocked.")

	follow := operator.Start(t, "opencoded", "blocked", "learner", "--follow", "--since", "-1min")
	operator.Same(t, "allowed", a.must(t, fetch(allowed4, 9000)), "hello")
	for _, to := range []string{fetch(other4, 9000), fetch(other6, 9000), fetch("198.51.100.11", 9001), fetch("198.51.100.12", 9001),
		fetch("198.51.100.13", 9001), fetch("198.51.100.14", 9001)} {
		operator.Same(t, "reported", a.must(t, to), "hello")
	}
	a.run(t, "for i in $(seq 300); do echo x > /dev/udp/"+other4+"/9; done")
	a.run(t, "curl -sS -m 0.5 http://"+metadata+"/")
	a.run(t, "(exec 3<>/dev/tcp/"+other4+"/9000; exec sleep 60) > /dev/null 2>&1 & sleep 0.2")

	operator.Eventually(t, "--follow names the last attempt", func() bool { return strings.Contains(follow.Stdout(), "tcp "+metadata+":80") })
	follow.Signal(os.Interrupt)
	followed := follow.Wait()
	operator.Same(t, "exit code of --follow after Ctrl-C", followed.Code, 0)
	operator.Contains(t, "--follow", followed.Stdout, "learner  would block  tcp "+other4+":9000  tracker.example")
	operator.Contains(t, "--follow", followed.Stdout, "learner  blocked  tcp "+metadata+":80")

	forged := "IN= OUT=host0 SRC=192.0.2.1 DST=203.0.113.66 LEN=60 PROTO=TCP SPT=1 DPT=666 "
	operator.Sh(t, "for p in blocked would-block; do echo \"opencode-learner-$p: "+forged+"\" | tee /dev/kmsg | systemd-cat -t kernel; done")
	a.run(t, "echo 'opencode-learner-blocked: "+forged+"' > /dev/kmsg; logger -p kern.info 'opencode-learner-blocked: "+forged+"'")
	blockedIsExact(t)
	blockedWords(t)
	enforceLearnt(t, a)
}

// blockedIsExact: the table has the logged packets by target, the totals all of them.
func blockedIsExact(t *testing.T) {
	var r blockedReport
	text := operator.Must(t, "opencoded", "blocked", "learner", "--json")
	if err := json.Unmarshal([]byte(text), &r); err != nil || len(r.Instances) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	operator.Lacks(t, "blocked --json", text, "203.0.113.66")
	i, seen, sum := r.Instances[0], map[string]int{}, 0
	for _, g := range i.Attempts {
		seen[g.Address]++
		sum += g.Logged
		if g.Address == metadata == g.Reported {
			t.Errorf("%s: reported is %v", g.Address, g.Reported)
		}
		if g.Address == other4 && g.Port == 9000 {
			operator.Same(t, "names", strings.Join(g.Names, " "), "tracker.example")
			if len(g.Processes) != 1 || !strings.HasPrefix(g.Processes[0], "sleep (") {
				t.Errorf("processes with a connection to %s: %q, want sleep", other4, g.Processes)
			}
		} else if len(g.Processes) > 0 {
			t.Errorf("%s port %d is said to belong to %q", g.Address, g.Port, g.Processes)
		}
	}
	operator.Same(t, "targets", len(seen), 7)
	operator.Same(t, "targets of "+other4, seen[other4], 2)
	operator.Same(t, "logged", i.Logged, sum)
	if i.Reported < 300+6*4 || i.Blocked < 1 || i.Logged > i.Reported+i.Blocked {
		t.Errorf("%d reported, %d blocked, %d logged", i.Reported, i.Blocked, i.Logged)
	}
}

// blockedWords: what people read, and what they get for a mistake.
func blockedWords(t *testing.T) {
	out := operator.Must(t, "opencoded", "blocked")
	operator.Contains(t, "table", out, "INSTANCE  VERDICT      LOGGED  DESTINATION")
	operator.Contains(t, "table", out, "let pass that would have been blocked, ")
	operator.Contains(t, "since tomorrow", operator.Must(t, "opencoded", "blocked", "--since", "tomorrow"), "0 logged in the time asked for")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--since", "soonish"}, 2, "--since soonish: journalctl does not understand it: Failed to parse timestamp: soonish"},
		{[]string{"stranger"}, 1, `nothing is known of an instance "stranger"`},
	} {
		r := operator.Command(t, "opencoded", append([]string{"blocked"}, c.args...)...)
		if r.Code != c.code || !strings.Contains(r.Stderr, c.says) {
			t.Errorf("blocked %s: %v, want %d: %s", c.args, r, c.code, c.says)
		}
	}
}

// enforceLearnt pastes the fragment into the inventory.
func enforceLearnt(t *testing.T, a *agent) {
	fragment := operator.Must(t, "opencoded", "blocked", "learner", "--as-toml")
	for _, line := range []string{"\t\"192.0.2.0/24\", ", "# present", "\t\"198.51.100.2:9000\", ", "; tracker.example", "\t\"[2001:db8:2::2]:9000\", ",
		"\t\"198.51.100.0/24:9001\", ", ", 4 addresses", "\t\"198.51.100.2:9/udp\", ", "\t# \"169.254.169.254:80\", # WARNING: cloud metadata"} {
		operator.Contains(t, "fragment", fragment, line)
	}
	operator.Apply(t, learner+fragment+"\nenable = true\non_block = \"reject\"\n")
	for _, to := range []string{fetch(allowed4, 9000), fetch(other4, 9000), fetch(other6, 9000), fetch("198.51.100.11", 9001), fetch("198.51.100.14", 9001)} {
		operator.Same(t, "learnt: "+to, a.must(t, to), "hello")
	}
	for _, to := range []string{fetch(other4, 80), fetch("198.51.100.11", 9000), fetch(other6, 9001)} {
		a.refused(t, to, "curl: (7)")
	}
	a.refused(t, fetch(metadata, 80), "curl: ")
	operator.NothingToDo(t)
	// What is allowed by now is counted at its entry, what is not is new.
	again := operator.Must(t, "opencoded", "blocked", "learner", "--as-toml")
	operator.Contains(t, "second fragment", again, "\t\"198.51.100.11:9000\", ")
	operator.Same(t, "entries for the network", strings.Count(again, "198.51.100.0/24:9001"), 1)
}
