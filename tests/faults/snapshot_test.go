package faults

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// snapshot is the host as far as opencoded could have changed it: every file of
// /etc, /var/lib and /run with its time of change, which no write leaves as it
// was (so contents need no reading); accounts, rules, units and processes.
//
// Left out is what changes by itself (systemd's and the journal's own files), the
// lock, which is no state, what the test itself does (mount(8)), and counters, which
// traffic moves.
func snapshot(t *testing.T) string {
	t.Helper()
	return operator.Sh(t, `
find /etc /var/lib /run -xdev \( -path /run/log -o -path /run/systemd -o -path /run/user -o -path /run/mount -o -path /run/opencoded \
	-o -path /var/lib/systemd -o -path /run/dbus \) -prune -o -printf 'file %p %y %U:%G %m %s %C@ %l\n' | sort
find /run/systemd/system -printf 'file %p %y %U:%G %m %s %C@ %l\n' | sort
getent passwd | sed 's/^/user /'
getent group | sed 's/^/group /'
nft list ruleset | sed 's/packets [0-9]* bytes [0-9]*//; s/^/rules /'
systemctl list-units --all --plain --no-legend 'opencode*' 'multi-user.target' | sed 's/^/unit /'
systemctl show -P MainPID -P InvocationID -P NRestarts 'opencode-*.service' | sed 's/^/process /'`)
}

// unchanged asserts that nothing happened to the host since a snapshot.
func unchanged(t *testing.T, before string) {
	t.Helper()
	if d := difference(before, snapshot(t)); d != "" {
		t.Errorf("the host was touched:\n%s", d)
	}
}

// difference lists the lines that only one of two texts has.
func difference(before, after string) string {
	was, is := strings.Split(before, "\n"), strings.Split(after, "\n")
	var b strings.Builder
	for _, l := range was {
		if !slices.Contains(is, l) {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	for _, l := range is {
		if !slices.Contains(was, l) {
			fmt.Fprintf(&b, "+ %s\n", l)
		}
	}
	return b.String()
}
