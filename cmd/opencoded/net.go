package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/destination"
	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/netpolicy"
)

func (a *app) net() *cobra.Command {
	c := &cobra.Command{
		Use: "net", Short: "egress rules",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %q (see opencoded net --help)", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.netEnsure(), a.netShow(), a.netTest(), a.netDial())
	return c
}

// netError adds the command to an error that says that root is needed.
func netError(command string, err error) error {
	if errors.Is(err, host.ErrNotRoot) {
		err = fmt.Errorf("net %s %w (use sudo; `opencoded validate FILE` works without)", command, err)
	}
	if err != nil {
		err = exit{exitError, err}
	}
	return err
}

func (a *app) netEnsure() *cobra.Command {
	return &cobra.Command{
		Use: "ensure NAME", Short: "load the egress rules of an instance if they are not in the kernel",
		Long: `Load the guard table and the egress rules of an instance, from the copy that the
last apply left, if the kernel does not hold exactly them. Every unit runs it
before anything else, so that an instance without its rules does not start.`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			loaded, err := host.EnsureRules(c.Context(), args[0])
			if err != nil {
				return netError("ensure", err)
			}
			switch {
			case a.json:
				a.print(struct {
					Loaded []string `json:"loaded"`
				}{append([]string{}, loaded...)})
			case len(loaded) > 0:
				fmt.Fprintf(a.out, "loaded inet %s\n", strings.Join(loaded, ", inet "))
			}
			return nil
		},
	}
}

func (a *app) netShow() *cobra.Command {
	return &cobra.Command{
		Use: "show [NAME]", Short: "print egress rules, and whether the kernel holds them",
		Long: `Without NAME: each instance's policy in a line, and the tables that hold them.
With NAME: the tables that restrict this instance, as nft reads them. Either
compares with the kernel and says what differs; then the exit code is 3.`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			name := strings.Join(args, "")
			rules, tables, counts, err := host.LoadedRules(c.Context(), name)
			if err != nil {
				return netError("show", err)
			}
			switch {
			case a.json:
				a.print(struct {
					netpolicy.Rules
					Tables []host.Loaded `json:"tables"`
				}{rules, tables})
			case name == "":
				a.policies(rules, tables, counts)
			default:
				for _, t := range tables {
					fmt.Fprint(a.out, t.Text)
				}
			}
			return a.differ(tables)
		},
	}
}

func (a *app) policies(rules netpolicy.Rules, tables []host.Loaded, counts map[string]netpolicy.Counts) {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "INSTANCE\tUID\tPORT\tEGRESS\tALLOWED\tBLOCKED\tREPORTED")
	for _, p := range rules.Policies {
		egress, allowed := "open", "everything"
		if p.Isolated {
			egress, allowed = "restricted", fmt.Sprint(len(p.Allow))
			if p.Report {
				egress = "reported"
			}
		}
		n := counts[p.Name]
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%d\t%d\n", p.Name, p.UID, p.Port, egress, allowed, n.Blocked.Packets, n.Reported.Packets)
	}
	w.Flush()
	for _, t := range tables {
		if len(t.Differ) == 0 {
			fmt.Fprintf(a.out, "table inet %s: loaded\n", t.Table)
		}
	}
}

func (a *app) differ(tables []host.Loaded) error {
	code := exitOK
	for _, t := range tables {
		for _, l := range t.Differ {
			code = exitDiffers
			fmt.Fprintln(a.err, l)
		}
	}
	if code != exitOK {
		return exit{code, errors.New("the kernel does not hold the rules of the last apply (run `opencoded apply`)")}
	}
	return nil
}

func (a *app) netTest() *cobra.Command {
	var live, udp bool
	c := &cobra.Command{
		Use: "test NAME DEST[:PORT]", Short: "say whether an instance reaches an address, and which rule decides",
		Long: `Say what the rules of the last apply do to what an instance sends to DEST, and
which of them decides. DEST is an address or a name, whose addresses are all
looked at; without PORT it is 443, over TCP.

With --live it is also tried, by a process with the user and in the control
group of the running instance.`,
		Args: exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			name, port, err := host.ParseTarget(args[1])
			if err != nil {
				return exit{exitUsage, err}
			}
			protocol := destination.TCP
			if udp {
				protocol = destination.UDP
			}
			rules, err := host.CompiledRules()
			if err != nil {
				return netError("test", err)
			}
			addrs, err := host.Resolve(c.Context(), name)
			if err != nil {
				return netError("test", err)
			}
			trials, err := host.Trials(rules, args[0], addrs, port, protocol)
			if err == nil && live {
				err = a.live(c, rules, args[0], trials)
			}
			if err != nil {
				return netError("test", err)
			}
			if a.json {
				a.print(trials)
				return nil
			}
			for _, t := range trials {
				a.trial(t)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&live, "live", false, "try it as the instance too")
	c.Flags().BoolVar(&udp, "udp", false, "UDP instead of TCP")
	return c
}

func (a *app) live(c *cobra.Command, rules netpolicy.Rules, name string, trials []host.Trial) error {
	h, err := a.open(c.Context(), "net test --live")
	if err != nil {
		return err
	}
	defer h.Close()
	for n := range trials {
		t := &trials[n]
		if t.Live, err = h.TryAs(c.Context(), rules, name, t.To, destination.Protocol(t.Protocol)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) trial(t host.Trial) {
	by := ""
	if t.Table != "" {
		by = ", table inet " + t.Table
	}
	fmt.Fprintf(a.out, "%s/%s %s: %s%s\n", t.To, t.Protocol, t.Outcome, t.Why, by)
	if t.Live != "" {
		fmt.Fprintf(a.out, "%s/%s tried: %s\n", t.To, t.Protocol, t.Live)
	}
}

// netDial is what `net test --live` runs as the instance.
func (a *app) netDial() *cobra.Command {
	return &cobra.Command{
		Use: "dial PROTOCOL ADDRESS:PORT", Hidden: true, Args: exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			fmt.Fprintln(a.out, host.Dial(c.Context(), args[0], args[1]))
			return nil
		},
	}
}
