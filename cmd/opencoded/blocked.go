package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/blocked"
	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/netpolicy"
)

// blockedQuery is what was asked for.
type blockedQuery struct {
	name      string // "": all instances
	since     string
	inventory string
	follow    bool
	asTOML    bool
}

func (a *app) blocked() *cobra.Command {
	var q blockedQuery
	c := &cobra.Command{
		Use: "blocked [NAME]", Short: "show what was blocked, and what would allow it",
		Long: `Show the connections that were blocked, or would have been in report mode, as
the kernel logged them: by destination, port and protocol, with count, first and
last time, names from /etc/hosts, and the process while it still has a socket to
there. The kernel logs no more packets than log_rate; the totals below the table
come from the rules and miss none.

--as-toml prints the allowlists that would let all of it pass. From ` + fmt.Sprint(blocked.Neighbours) + ` addresses
of a /24 or /64 on, tried at the same port, their network is proposed. It is what
an instance tried, which is not always what it needs: read it before you use it.`,
		Example: "  sudo opencoded blocked web --since yesterday\n  sudo opencoded blocked --follow\n  sudo opencoded blocked web --as-toml",
		Args:    atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				q.name = args[0]
			}
			if err := q.check(a.json, c.Flags().Changed("since")); err != nil {
				return err
			}
			h, err := a.open(c.Context(), "blocked")
			if err != nil {
				return err
			}
			defer h.Close()
			v := blockedView{app: a, query: q, host: h}
			if v.policies, err = h.Policies(); err != nil {
				return exit{exitError, err}
			}
			// As hosts(5) says, nothing has a name without the file.
			hosts, _ := os.ReadFile("/etc/hosts")
			v.names = blocked.Hosts(string(hosts))
			return v.run(c.Context())
		},
	}
	c.Flags().StringVar(&q.since, "since", "", "from when on, as journalctl reads it: yesterday, -2h, \"2026-01-31 12:00\" (default: since the boot)")
	c.Flags().BoolVarP(&q.follow, "follow", "f", false, "print attempts as they come, until Ctrl-C")
	c.Flags().BoolVar(&q.asTOML, "as-toml", false, "print the entries of the inventory that would allow them")
	c.Flags().StringVar(&q.inventory, "inventory", defaultInventory, "the inventory whose present entries --as-toml keeps")
	return c
}

func (q blockedQuery) check(asJSON, since bool) error {
	switch {
	case q.name != "" && !instance.ValidName(q.name):
		return usage("%q is no name of an instance (see opencoded blocked --help)", q.name)
	case q.asTOML && q.follow:
		return usage("--as-toml needs an end and --follow has none (see opencoded blocked --help)")
	case q.asTOML && asJSON:
		return usage("--as-toml and --json exclude each other; JSON has the entries too (see opencoded blocked --help)")
	case since && strings.TrimSpace(q.since) == "":
		return usage("--since is empty (see opencoded blocked --help)")
	}
	return nil
}

// blockedView reads and prints.
type blockedView struct {
	*app
	query     blockedQuery
	host      *host.Host
	policies  map[string]netpolicy.Policy
	names     blocked.Names
	processes host.Processes
	unread    int // lines with the prefix that could not be read
	unreadErr error
}

func (v *blockedView) run(ctx context.Context) error {
	var log blocked.Log
	take := log.Add
	if v.query.follow {
		take = v.line
	}
	remark, err := v.host.KernelLog(ctx, v.query.since, v.query.follow, func(at time.Time, message string) {
		t, ours, err := blocked.Parse(message)
		switch {
		case err != nil:
			v.unread, v.unreadErr = v.unread+1, err
		case ours && (v.query.name == "" || v.query.name == t.Instance):
			take(blocked.Attempt{Target: t, Time: at})
		}
	})
	if errors.Is(err, host.ErrSince) {
		return usage("--since %s: %v", blocked.Printable(v.query.since), err)
	}
	if err != nil {
		return exit{exitError, err}
	}
	if remark != "" {
		fmt.Fprintf(v.err, "the journal: %s\n", remark)
	}
	if v.unread > 0 {
		fmt.Fprintf(v.err, "%s of the kernel log could not be read: %s\n",
			count(v.unread, "line", "lines"), blocked.Printable(v.unreadErr.Error()))
	}
	if v.query.follow {
		return nil
	}
	return v.report(ctx, &log)
}

func (v *blockedView) process(t blocked.Target) []string {
	p, ok := v.policies[t.Instance]
	if !ok || t.Port == 0 {
		return nil
	}
	return v.processes.Find(p.UID, t.Protocol, netip.AddrPortFrom(t.Address, t.Port))
}

// line prints one attempt.
func (v *blockedView) line(a blocked.Attempt) {
	names, process := v.names[a.Address], v.process(a.Target)
	if v.json {
		_ = json.NewEncoder(v.out).Encode(struct { // one line each, to standard output
			blocked.Attempt
			Names     []string `json:"names,omitempty"`
			Processes []string `json:"processes,omitempty"`
		}{a, names, process})
		return
	}
	text := fmt.Sprintf("%s  %s  %s  %s", stamp(a.Time), a.Instance, a.Verdict(), a.Target)
	if len(names) > 0 {
		text += "  " + strings.Join(names, ", ")
	}
	if len(process) > 0 {
		text += "  by " + strings.Join(process, ", ")
	}
	fmt.Fprintln(v.out, text)
}

// blockedGroup is a row of the table.
type blockedGroup struct {
	blocked.Group
	Names     []string `json:"names,omitempty"`
	Processes []string `json:"processes,omitempty"`
}

// blockedInstance is all that there is to say of an instance.
type blockedInstance struct {
	Instance string          `json:"instance"`
	Blocked  uint64          `json:"blocked_packets"`
	Reported uint64          `json:"reported_packets"`
	Logged   int             `json:"logged_packets"`
	Further  int             `json:"further_packets,omitempty"` // logged, to more targets than are told apart
	Groups   []blockedGroup  `json:"attempts"`
	Entries  []blocked.Entry `json:"outbound_allow_cidrs"`
}

func (v *blockedView) report(ctx context.Context, log *blocked.Log) error {
	counts, err := v.host.Counts(ctx)
	if err != nil {
		return exit{exitError, err}
	}
	inv, noInventory := v.present()
	list := []blockedInstance{}
	for _, name := range v.instances(log, counts) {
		groups, logged, further := log.Of(name)
		i := blockedInstance{Instance: name, Logged: logged, Further: further, Groups: []blockedGroup{},
			Blocked: counts[name].Blocked.Packets, Reported: counts[name].Reported.Packets}
		for _, g := range groups {
			i.Groups = append(i.Groups, blockedGroup{g, v.names[g.Address], v.process(g.Target)})
		}
		i.Entries = append([]blocked.Entry{}, entries(groups, inv, name)...)
		list = append(list, i)
	}
	_, known := v.policies[v.query.name]
	switch {
	case v.query.name != "" && len(list) == 0 && !known:
		return exit{exitError, fmt.Errorf("nothing is known of an instance %q: it has no rules, and the journal does not name it (see opencoded status)", v.query.name)}
	case v.json:
		v.print(struct {
			Instances []blockedInstance `json:"instances"`
			Unread    int               `json:"unread_lines,omitempty"`
		}{list, v.unread})
	case v.query.asTOML:
		v.toml(list, inv, noInventory)
	default:
		v.table(list)
	}
	return nil
}

// instances are those with anything to say of, sorted.
func (v *blockedView) instances(log *blocked.Log, counts map[string]netpolicy.Counts) []string {
	names := log.Instances()
	for n, c := range counts {
		if c.Blocked.Packets+c.Reported.Packets > 0 && (v.query.name == "" || v.query.name == n) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// present is the inventory whose entries are kept, or why there is none.
func (v *blockedView) present() (*instance.Inventory, error) {
	inv, problems, err := v.load(v.query.inventory)
	if err == nil && inv == nil {
		err = errors.New(problems.Errors()[0].String())
	}
	return inv, err
}

// entries keeps those that the inventory has.
func entries(groups []blocked.Group, inv *instance.Inventory, name string) []blocked.Entry {
	if inv != nil && inv.Get(name) != nil {
		return blocked.Propose(groups, inv.Get(name).Network.Allow)
	}
	return blocked.Propose(groups, nil)
}

func (v *blockedView) toml(list []blockedInstance, inv *instance.Inventory, noInventory error) {
	for n, i := range list {
		if n > 0 {
			fmt.Fprintln(v.out)
		}
		remarks := []string{v.totals(i)}
		switch {
		case noInventory != nil:
			remarks = append(remarks, "Present entries are missing here, and a list replaces another: "+noInventory.Error())
		case inv.Get(i.Instance) == nil:
			remarks = append(remarks, "The inventory "+v.query.inventory+" has no such instance.")
		}
		if i.Further > 0 {
			remarks = append(remarks, further(i))
		}
		fmt.Fprint(v.out, blocked.TOML(i.Instance, i.Entries, v.names, remarks...))
	}
	if len(list) == 0 {
		fmt.Fprintln(v.out, "# Nothing was blocked.")
	}
}

func (v *blockedView) table(list []blockedInstance) {
	if len(list) == 0 {
		fmt.Fprintln(v.out, "Nothing was blocked.")
		return
	}
	if slices.ContainsFunc(list, func(i blockedInstance) bool { return len(i.Groups) > 0 }) {
		w := tabwriter.NewWriter(v.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "INSTANCE\tVERDICT\tLOGGED\tDESTINATION\tPORT\tPROTOCOL\tFIRST\tLAST\tNAMES\tPROCESSES")
		for _, i := range list {
			for _, g := range i.Groups {
				port := orDash(uint32(g.Port))
				if g.ICMP != "" {
					port = "type " + g.ICMP
				}
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", g.Instance, g.Verdict(), g.Logged, g.Address, port,
					g.Protocol, stamp(g.First), stamp(g.Last), text(strings.Join(g.Names, ", ")), text(strings.Join(g.Processes, ", ")))
			}
		}
		w.Flush()
	}
	for _, i := range list {
		fmt.Fprintf(v.out, "%s: %s\n", i.Instance, v.totals(i))
		if i.Further > 0 {
			fmt.Fprintf(v.out, "%s: %s\n", i.Instance, further(i))
		}
	}
}

// totals holds the counters, which miss nothing, against the log. They begin when the
// rules were loaded, the log where it was asked from.
func (v *blockedView) totals(i blockedInstance) string {
	var parts []string
	if i.Blocked > 0 || i.Reported == 0 {
		parts = append(parts, count(int(i.Blocked), "packet", "packets")+" blocked")
	}
	if i.Reported > 0 {
		parts = append(parts, count(int(i.Reported), "packet", "packets")+" let pass that would have been blocked")
	}
	said := strings.Join(parts, ", ")
	switch counted := i.Blocked + i.Reported; {
	case v.query.since != "":
		return fmt.Sprintf("%s since the rules were loaded; %d logged in the time asked for", said, i.Logged)
	case uint64(i.Logged) > counted:
		return fmt.Sprintf("%s since the rules were loaded; %d logged since the boot", said, i.Logged)
	default:
		return fmt.Sprintf("%s, %d of them logged", said, i.Logged)
	}
}

func further(i blockedInstance) string {
	return fmt.Sprintf("%s went to targets beyond the first %d and are not listed (shorten the time with --since)",
		count(i.Further, "logged packet", "logged packets"), blocked.MaxGroups)
}

func stamp(t time.Time) string { return t.Local().Format(time.DateTime) }
