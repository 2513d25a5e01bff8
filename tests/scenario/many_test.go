package scenario

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/netpolicy"
	"github.com/opencoded/opencoded/tests/operator"
)

// standinProgram is the small server that stands in for opencode where there are
// many (package standin).
const standinProgram = "/usr/local/lib/opencode-standin"

// many isolated instances are more than get a table each.
const many = netpolicy.AutoTables + 2

// manyInstances: each of many instances reaches its own destinations and none of
// the others', in either layout.
func manyInstances(t *testing.T) {
	makeWorld(t)
	installProbe(t)
	reports := reporting(t, "127.0.0.1:7000")
	operator.Write(t, "/usr/local/lib/opencode-with-probe", `#!/bin/sh
if [ "$1" = serve ]; then
	`+startProbe(reports.Addr().String())+`
fi
exec `+standinProgram+` "$@"
`, 0o755)
	var inventory, addresses strings.Builder
	for n := range many {
		fmt.Fprintf(&inventory, `
[instances.i%d]
directory = "/srv/i%[1]d"
listen.port = %d
network_isolation.outbound_allow_cidrs = [%q, %q]
`, n, 8800+n, target4(n), target6(n))
		fmt.Fprintf(&addresses, "ip -n world addr add %s/24 dev world0; ip -n world addr add %s/64 dev world0 nodad\n", target4(n), target6(n))
		listen(t, fmt.Sprintf("[::]:%d", sender(n)), echo)
	}
	operator.Sh(t, addresses.String())
	apply := func(layout string) {
		operator.Apply(t, fmt.Sprintf(`
version = 1
[host]
egress_layout = %q
[defaults]
opencode = "/usr/local/lib/opencode-with-probe"
listen.address = "0.0.0.0" # nftables alone
network_isolation.enable = true
`, layout)+inventory.String())
	}
	apply("auto")
	probes := map[string]*probe{}
	for range many {
		p := meet(t, reports)
		probes[p.name] = p
	}
	eachItsOwn(t, "auto", probes)
	operator.Must(t, "nft", "list", "table", "inet", netpolicy.SharedTable)
	apply("per-instance")
	eachItsOwn(t, "per-instance", probes)
	operator.Same(t, "shared table", operator.Command(t, "nft", "list", "table", "inet", netpolicy.SharedTable).Code, 1)
}

func target4(n int) string { return fmt.Sprintf("198.51.100.%d", 100+n) }
func target6(n int) string { return fmt.Sprintf("2001:db8:2::%d", 100+n) }

// sender is the port to which one instance alone sends, which tells at the target
// who it was.
func sender(n int) uint16 { return uint16(20000 + n) }

func eachItsOwn(t *testing.T, layout string, probes map[string]*probe) {
	t.Helper()
	before := arrivals(t)
	for from := range many {
		p := probes[fmt.Sprintf("i%d", from)]
		if p == nil {
			t.Fatalf("no probe has come up in i%d", from)
		}
		try := func(kind, address string, await bool) {
			t.Helper()
			out := p.do(t, order{Do: "try", Kind: kind, To: at(address, sender(from)), Await: await})
			if await && out.Said != "answered" {
				t.Errorf("%s: %s of %s to %s: %s", layout, kind, p.name, address, out.Said)
			}
		}
		for step := range many { // its own last: an answer from there comes behind everything
			to := (from + 1 + step) % many
			for _, address := range []string{target4(to), target6(to)} {
				try("udp", address, false)
				try("tcp", address, to == from)
			}
		}
	}
	after := arrivals(t)
	for from := range many {
		for to := range many {
			for _, address := range []string{target4(to), target6(to)} {
				for _, protocol := range []string{"udp", "tcp"} {
					key := arrival(kinds[protocol], netip.MustParseAddrPort(at(address, sender(from))))
					if n := after[key] - before[key]; (from == to) != (n > 0) {
						t.Errorf("%s: %d packets of i%d have arrived at the target of i%d: %s", layout, n, from, to, key)
					}
				}
			}
		}
	}
}
