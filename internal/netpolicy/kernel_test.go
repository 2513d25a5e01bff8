package netpolicy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencoded/opencoded/internal/destination"
	"golang.org/x/sys/unix"
)

// debugNoise are the rules' handles, and a note that nft leaves for itself at a range without end.
var debugNoise = regexp.MustCompile(`(?m)(^inet \S+ \S+) [\d ]+$|  userdata = \{ \\x01\\x04\\x01\\x00\\x00\\x00 \}`)

// calm takes out the noise, and sorts elements: a hash dumps them in the order of its own secret.
func calm(listing string) string {
	lines := strings.Split(debugNoise.ReplaceAllString(listing, "$1"), "\n")
	for from := 0; from < len(lines); from++ {
		to := from
		for to < len(lines) && strings.HasPrefix(lines[to], "\telement ") {
			to++
		}
		slices.Sort(lines[from:to])
	}
	return strings.Join(lines, "\n")
}

// What our netlink code writes is what nft writes for the text that we print: the same listing, the same JSON and
// the same expressions.
func TestParityWithNft(t *testing.T) {
	handles := regexp.MustCompile(`"handle": \d+`)
	for _, name := range slices.Sorted(maps.Keys(samples())) {
		t.Run(name, func(t *testing.T) {
			table := samples()[name]
			ours, theirs := newNetNS(t), newNetNS(t)
			ours.ensure(table)
			theirs.nft(table.String())
			for _, list := range []string{"nft list ruleset", "nft -j list ruleset", "nft --debug=netlink list ruleset"} {
				a := handles.ReplaceAllString(ours.run(strings.Fields(list)...), "")
				b := handles.ReplaceAllString(theirs.run(strings.Fields(list)...), "")
				if list == "nft --debug=netlink list ruleset" {
					a, b = calm(a), calm(b)
				}
				if a != b {
					t.Errorf("%s\nours:\n%s\nnft -f:\n%s", list, a, b)
				}
			}
			if diff := theirs.diff(table); diff != "" {
				t.Errorf("loaded by nft -f it differs: %s", diff)
			}
		})
	}
}

// The text of a transaction does in nft what the batch does.
func TestTransactionText(t *testing.T) {
	for name, r := range replacements() {
		t.Run(name, func(t *testing.T) {
			ours, theirs := newNetNS(t), newNetNS(t)
			for _, n := range []*netns{ours, theirs} {
				if r.have != nil {
					n.nft(r.have.String())
				}
			}
			ours.ensure(r.want)
			theirs.nft(replacement(r.have, r.want, false).String())
			if diff := theirs.diff(r.want) + ours.diff(r.want); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Edits made by hand, each named by Diff and undone by Ensure.
func TestDrift(t *testing.T) {
	const e, g = "inet opencode-web", "inet opencoded-guard"
	edits := []struct{ script, want string }{
		{"add rule " + e + " egress accept", "chain egress: rule unexpected: accept"},
		{"insert rule " + e + " egress ip daddr 1.2.3.4 accept", "chain egress: rule unexpected: ip daddr 1.2.3.4 accept"},
		{"insert rule " + e + " egress tcp dport { 22, 80 } accept", "chain egress: rule unexpected: "},
		{"insert rule " + e + " output meta skuid 62001 accept", "chain output: rule unexpected: meta skuid 62001 accept"},
		{"insert rule " + e + " output meta mark 7 accept", "chain output: rule unexpected: [ meta "},
		{"insert rule " + e + " output rt classid 1 accept", "chain output: rule unexpected: [ rt ]"},
		{"add rule " + e + " egress counter", "chain egress: rule unexpected: [ counter ]"},
		{"flush chain " + e + " egress", `chain egress: rule missing: oifname "lo" accept`},
		{"flush chain " + e + " output", "chain output: rule missing: meta skuid 62001 goto egress"},
		{"flush chain " + e + " egress; add rule " + e + " egress accept", "rule changed: accept, wanted: ct direction reply accept"},
		{"flush table " + e, "chain output: rule missing"},
		{"delete table " + e, "table inet opencode-web missing"},
		{"flush ruleset", "table inet opencode-web missing"},
		{"add element " + e + " allow4 { 1.2.3.0/24 }", "set allow4: element 1.2.3.0/24 unexpected"},
		{"add element " + e + " allow4 { 255.0.0.0/8 }", "set allow4: element 255.0.0.0/8 unexpected"},
		{"delete element " + e + " allow4 { 10.0.0.0/8 }", "set allow4: element 10.0.0.0/8 missing"},
		{"flush set " + e + " allow6", "set allow6: element 2001:db8::/32 missing"},
		{"add element " + e + " allow6 { 8000::/1 }", "set allow6: element 8000::/1 unexpected"},
		{"add chain " + e + " stray", "chain stray unexpected"},
		{"add chain " + e + " stray { type filter hook output priority -300; policy drop; }", "chain stray unexpected"},
		{"add set " + e + " stray { type mark; }", "set stray unexpected"},
		{"add set " + e + " stray { type ipv4_addr . inet_service; flags interval; elements = { 1.2.3.4 . 1-5 }; }", "set stray unexpected"},
		{"add counter " + e + " stray", "counter stray unexpected"},
		{"add chain " + e + " output { policy drop; }", "policy drop;\", wanted"},
		{"add table " + e + " { flags dormant; }", "flags dormant, wanted none"},
		{"flush chain " + e + " output; delete chain " + e + " output; add chain " + e +
			" output { type filter hook output priority 10; }; add rule " + e + " output meta skuid 62001 goto egress", "priority filter + 10; policy accept;\", wanted"},
		{"flush chain " + e + " output; delete chain " + e + " output; add chain " + e +
			" output { type filter hook input priority 0; }; add rule " + e + " output meta skuid 62001 goto egress", "hook input"},
		{"flush chain " + e + " output; add rule " + e + " output meta skuid 62002 goto egress", "rule changed: meta skuid 62002 goto egress, wanted"},
		{"flush chain " + e + " output; add rule " + e + " output meta skuid != 62001 goto egress", "rule changed: "},
		{"delete element " + g + " instances { 62001 }", "set instances: element 62001 missing"},
		{"add element " + g + " own { 62002 . 8082 }", "set own: element 62002 . 8082 unexpected"},
		{"add element " + g + " named4 { 62002 . 169.254.169.254 }", "set named4: element 62002 . 169.254.169.254 unexpected"},
		{"delete element " + g + " blocked_by { 62002 }", "set blocked_by: element 62002 : goto blocked-api missing"},
		{"delete element " + g + " blocked_by { 62001 }; add element " + g + " blocked_by { 62001 : accept }", "set blocked_by: element 62001 : accept unexpected"},
		{"delete element " + g + " ports { 8081 }", "set ports: element 8081 missing"},
		{"insert rule " + g + " guard accept", "chain guard: rule unexpected: accept"},
		{"flush chain " + g + " blocked-api", "chain blocked-api: rule missing"},
		{"flush chain " + g + " blocked-web; add rule " + g + ` blocked-web limit rate 6/minute log prefix "opencode-web-blocked: "; add rule ` +
			g + " blocked-web counter name blocked-web drop", "rule changed: limit rate 6/minute"},
		{"flush chain " + g + " blocked-web; add rule " + g + ` blocked-web limit rate 5/minute log prefix "x"; add rule ` +
			g + " blocked-web counter name blocked-web drop", `log prefix "x", wanted`},
	}
	tables := []Table{must(Guard([]Policy{web, api, open})), must(Egress(web))}
	for _, edit := range edits {
		t.Run(edit.want, func(t *testing.T) {
			n := newNetNS(t)
			n.ensure(tables...)
			if changes, err := n.kernel.Ensure(t.Context(), tables...); err != nil || len(changes) > 0 {
				t.Fatalf("not converged after Ensure: %v, %v", changes, err)
			}
			n.nft(strings.ReplaceAll(edit.script, "; ", "\n"+" "))
			changes, err := n.kernel.Ensure(t.Context(), tables...)
			if err != nil {
				t.Fatal(err)
			}
			var diffs []string
			for _, c := range changes {
				diffs = append(diffs, c.Diff)
			}
			if all := strings.Join(diffs, "\n"); !strings.Contains(all, edit.want) {
				t.Errorf("%s\nis reported as\n%s\nwanted %s", edit.script, all, edit.want)
			}
			for _, table := range tables {
				if diff := n.diff(table); diff != "" {
					t.Errorf("still after Ensure: %s", diff)
				}
			}
		})
	}
}

func TestListAndDelete(t *testing.T) {
	n, ctx := newNetNS(t), t.Context()
	n.nft("table inet docker { set opencoded { type uid; }; }\ntable ip opencode-old { }\n")
	n.ensure(must(Guard([]Policy{web})), must(Egress(web)), must(Egress(api)))
	names, err := n.kernel.List(ctx)
	if want := []string{"opencode-api", "opencode-web", "opencoded-guard"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("List: %v, %v", names, err)
	}
	if err := n.kernel.Delete(ctx, "opencode-web", "opencode-web", "opencode-absent"); err != nil {
		t.Error(err)
	}
	if err := n.kernel.Delete(ctx, "docker", "opencode-api"); !errors.Is(err, ErrForeign) {
		t.Errorf("deleting a foreign table: %v", err)
	}
	names, _ = n.kernel.List(ctx)
	if !slices.Equal(names, []string{"opencoded-guard"}) {
		t.Errorf("left: %v", names)
	}
	if list := n.run("nft", "list", "tables"); !strings.Contains(list, "inet docker") || !strings.Contains(list, "ip opencode-old") {
		t.Errorf("foreign tables are gone:\n%s", list)
	}
}

func TestForeignTableIsRefused(t *testing.T) {
	for name, script := range map[string]string{
		"no marker":     "table inet opencode-web { chain c { accept; }; }",
		"other comment": `table inet opencode-web { set opencoded { type uid; comment "mine"; }; }`,
		"no comment":    "table inet opencode-web { set opencoded { type uid; }; }",
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetNS(t)
			n.nft(script)
			before := n.run("nft", "list", "ruleset")
			_, err := n.kernel.Ensure(t.Context(), must(Egress(web)))
			if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "nft delete table inet opencode-web") {
				t.Errorf("Ensure: %v", err)
			}
			if _, err := n.kernel.Ensure(t.Context(), must(Egress(web)), must(Egress(api))); !errors.Is(err, ErrForeign) {
				t.Errorf("Ensure: %v", err)
			}
			if diff := n.diff(must(Egress(api))); diff != "" {
				t.Errorf("the other table was not written: %s", diff)
			}
			if err := n.kernel.Delete(t.Context(), "opencode-web", "opencode-api"); !errors.Is(err, ErrForeign) {
				t.Errorf("Delete: %v", err)
			}
			if after := n.run("nft", "list", "ruleset"); after != before {
				t.Errorf("the foreign table was changed:\n%s", after)
			}
		})
	}
}

// After a flush every starting unit ensures the guard: many writers at once must leave one ruleset.
func TestConcurrentEnsure(t *testing.T) {
	n := newNetNS(t)
	tables := []Table{must(Guard([]Policy{web, api, open})), must(Egress(web))}
	for range 5 {
		n.nft("flush ruleset")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := n.kernel.Ensure(t.Context(), tables...); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, table := range tables {
			if diff := n.diff(table); diff != "" {
				t.Error(diff)
			}
		}
	}
}

func TestTenThousandPrefixes(t *testing.T) {
	n := newNetNS(t)
	many := web
	many.Allow = nil
	for i := range 5_000 {
		many.Allow = append(many.Allow,
			destination.Of(netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 0}), 25)),
			destination.Of(netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(i >> 8), byte(i)}), 64)))
	}
	table := must(Egress(many))
	start := time.Now()
	n.ensure(table)
	t.Logf("written and read back in %v", time.Since(start))
	if list := n.run("nft", "list", "set", "inet", "opencode-web", "allow4"); strings.Count(list, "/25") != 5_000 {
		t.Errorf("nft lists %d of 5000 prefixes", strings.Count(list, "/25"))
	}
	many.Allow = many.Allow[1:]
	start = time.Now()
	n.ensure(must(Egress(many)))
	t.Logf("replaced in %v", time.Since(start))
	if diff, want := n.diff(table), "set allow4: element 11.0.0.0/25 missing"; !strings.Contains(diff, want) {
		t.Errorf("%q is not %q", diff, want)
	}
}

// From any allowlist to any other in one batch, and one before it where there are new sets to fill: neighbours, nested
// entries, the ends of a family.
func TestAnyChangeOfAllowlist(t *testing.T) {
	n := newNetNS(t)
	pool := allow("0.0.0.0/0", "0.0.0.0/1", "0.0.0.0/32", "0.0.0.1/32", "10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "10.128.0.0/10",
		"11.0.0.0/8", "128.0.0.0/1", "192.0.2.1/32", "192.0.2.2/32", "255.255.255.254/32", "255.255.255.255/32",
		"::/0", "::/128", "::1/128", "2001:db8::/32", "2001:db9::/32", "2001:db8:1::/48", "8000::/1", "ffff::/16",
		"0.0.0.0/0:443", "10.0.0.0/8:443", "10.0.0.0/9:443", "10.0.0.0/9:443/udp", "10.0.0.1:443", "255.255.255.255:1", "0.0.0.0:65535/udp",
		"[::/0]:53/udp", "[2001:db8::/32]:53/udp", "[ffff::/16]:53/udp", "[ffff::/16]:53", "[::]:1")
	rng, sets := rand.New(rand.NewPCG(1, 2)), map[string]bool{}
	for range 100 {
		p := web
		p.Allow = nil
		for _, prefix := range pool {
			if rng.IntN(4) == 0 {
				p.Allow = append(p.Allow, prefix)
			}
		}
		table := must(Egress(p))
		before, err := n.kernel.generation(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		changes, err := n.kernel.Ensure(t.Context(), table)
		if err != nil {
			t.Fatalf("to %v: %v", p.Allow, err)
		}
		batches := uint32(len(changes))
		if slices.ContainsFunc(table.Sets, func(s Set) bool { return !sets[s.Name] }) {
			batches++
		}
		clear(sets)
		for _, s := range table.Sets {
			sets[s.Name] = true
		}
		after, err := n.kernel.generation(t.Context())
		if err != nil || after-before != batches {
			t.Fatalf("to %v: %d batches for %v, %v", p.Allow, after-before, changes, err)
		}
		if list := strings.Join(strings.Fields(n.run("nft", "list", "table", "inet", "opencode-web")), " "); !listsAll(list, table) {
			t.Fatalf("to %v: nft lists %s", p.Allow, list)
		}
	}
}

// listsAll reports whether nft's listing holds exactly the elements of the table's sets.
func listsAll(list string, table Table) bool {
	for _, s := range table.Sets[1:] {
		elements := ""
		if len(s.Elements) > 0 {
			elements = "elements = { " + strings.Join(s.Elements, ", ") + " } "
		}
		if !strings.Contains(list, "set "+s.Name+" { type "+s.Type+" flags interval "+elements+"}") {
			return false
		}
	}
	return true
}

func TestThousandInstances(t *testing.T) {
	n := newNetNS(t)
	var policies []Policy
	for i := range 1_000 {
		policies = append(policies, Policy{Name: fmt.Sprintf("i%d", i), UID: uint32(62_000 + i), Port: uint16(20_000 + i)})
	}
	guard := must(Guard(policies))
	start := time.Now()
	n.ensure(guard)
	t.Logf("guard of 1000 written and read back in %v", time.Since(start))
	start = time.Now()
	if changes, err := n.kernel.Ensure(t.Context(), guard); err != nil || len(changes) > 0 {
		t.Errorf("%v, %v", changes, err)
	}
	t.Logf("ensured in %v", time.Since(start))
}

func TestBaseChainLimit(t *testing.T) {
	n := newNetNS(t)
	var b strings.Builder
	b.WriteString("table inet crowd {\n")
	for i := range 1024 {
		fmt.Fprintf(&b, "chain c%d { type filter hook output priority 0; }\n", i)
	}
	n.nft(b.String() + "}\n")
	_, err := n.kernel.Ensure(t.Context(), must(Egress(web)))
	if !errors.Is(err, unix.E2BIG) || !strings.Contains(err.Error(), "1,024 base chains") {
		t.Errorf("%v", err)
	}
}

// A batch that fails changes nothing, and its error names the first operation for each cause, whatever follows.
func TestRefusedBatch(t *testing.T) {
	n := newNetNS(t)
	many := Set{Name: "many", Type: "uid"}
	for uid := range 3 * elementsPerMessage {
		many.Elements = append(many.Elements, uidText(uint32(uid)))
	}
	tx := newTransaction("opencode-web")
	tx.createTable()
	tx.addChain(Chain{Name: "here"})
	for range 1000 {
		tx.addRule("here", rule(accept))
	}
	tx.addRule("here", rule(Lookup{"meta skuid", "nowhere"}, accept))
	tx.addRule("nowhere", rule(drop))
	tx.createTable()
	tx.addElements(many, false)
	tx.addRule("here", rule(accept))
	err := explain("write table inet opencode-web", tx.commit(t.Context(), n.kernel))
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "add rule inet opencode-web here meta skuid @nowhere accept: no such file") {
		t.Errorf("%v", err)
	}
	var refused refusals
	if err := tx.commit(t.Context(), n.kernel); !errors.As(err, &refused) || !errors.Is(err, unix.EEXIST) || len(refused) != 2 {
		t.Errorf("%v", err)
	}
	if list := n.run("nft", "list", "tables"); list != "" {
		t.Errorf("left: %s", list)
	}
	tx = newTransaction("opencode-web")
	tx.addElements(many, false)
	if err := tx.commit(t.Context(), n.kernel); !errors.Is(err, unix.ENOENT) || len(err.Error()) > 300 {
		t.Errorf("%v", err)
	}
}

func TestWithoutCapability(t *testing.T) {
	n := newNetNS(t)
	var err, applied error
	done := make(chan struct{})
	n.calls <- func() {
		defer close(done)
		// Of this thread alone, which ends with the test; net.Conn's wrapper would change the whole process.
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			err = errno
			return
		}
		_, err = Open(context.Background())
		tx := newTransaction("x")
		tx.createTable()
		applied = tx.commit(context.Background(), &Kernel{})
	}
	<-done
	// Of a batch too: its one error is about no message of it.
	if !errors.Is(applied, unix.EPERM) {
		t.Errorf("a batch: %v", applied)
	}
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "cannot use nftables: CAP_NET_ADMIN is missing") {
		t.Errorf("%v", err)
	}
}

func TestExplain(t *testing.T) {
	for err, want := range map[error]string{
		unix.EPROTONOSUPPORT:     "modprobe nf_tables",
		unix.EOPNOTSUPP:          "modprobe nf_tables",
		unix.EINVAL:              "no nf_tables",
		unix.ENOENT:              "nft_fib_inet",
		unix.E2BIG:               "1,024",
		context.DeadlineExceeded: "cannot do it",
	} {
		got := explain("do it", fmt.Errorf("conn.Receive: %w", err))
		if !errors.Is(got, err) || !strings.Contains(got.Error(), want) || !strings.HasPrefix(got.Error(), "cannot do it: ") {
			t.Errorf("%v is explained as %v", err, got)
		}
	}
}

func TestDeadline(t *testing.T) {
	n := newNetNS(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.kernel.Ensure(ctx, must(Egress(web))); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
