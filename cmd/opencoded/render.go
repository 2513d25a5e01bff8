package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/opencoded/opencoded/internal/plan"
)

// printer writes text for people, coloured on a terminal.
type printer struct {
	w      io.Writer
	colour bool
}

func (a *app) printer() printer {
	return printer{w: a.out, colour: terminal(a.out) && os.Getenv("NO_COLOR") == ""}
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Colours of the terminal (ECMA-48).
const (
	bold   = "1"
	faint  = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (p printer) paint(code, s string) string {
	if !p.colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// signs mark what happens to an instance.
var signs = map[plan.Action]struct{ sign, colour string }{
	plan.ActCreate:  {"+", green},
	plan.ActStart:   {"+", green},
	plan.ActRestart: {"!", yellow},
	plan.ActUpdate:  {"~", yellow},
	plan.ActRemove:  {"-", red},
	plan.ActNone:    {" ", bold},
}

// level is how much of a plan is shown.
type level int

const (
	tallies level = iota // a line for each instance
	steps                // every step
	diffs                // every step with the text that changes
)

// plan prints what is to be done.
func (p printer) plan(pl plan.Plan, show level) {
	defer p.outdated(pl)
	if pl.Empty() {
		fmt.Fprintf(p.w, "Nothing to do: %s as the inventory says.\n", count(len(pl.Lanes), "instance is", "instances are"))
		return
	}
	unchanged := 0
	if len(pl.Host.Steps) > 0 {
		p.lane("host", pl.Host, show)
	}
	for _, l := range pl.Lanes {
		if len(l.Steps) == 0 {
			unchanged++
			continue
		}
		p.lane(l.Instance, l, show)
	}
	if pl.Reload {
		fmt.Fprintln(p.w, "systemd reads its unit files again, once.")
	}
	fmt.Fprintln(p.w, p.summary(pl, unchanged))
}

// outdated says what runs that a restart would renew.
func (p printer) outdated(pl plan.Plan) {
	any := false
	for _, l := range pl.Lanes {
		if len(l.Outdated) > 0 {
			fmt.Fprintf(p.w, "%s: restart to run %s\n", l.Instance, strings.Join(l.Outdated, ", "))
			any = true
		}
	}
	if any {
		fmt.Fprintln(p.w, "`opencoded apply --restart-outdated` restarts them one at a time.")
	}
}

func (p printer) lane(name string, l plan.Lane, show level) {
	s := signs[l.Action]
	title := fmt.Sprintf("%s %s: %s", s.sign, name, l.Action)
	if len(l.Why) > 0 {
		title += " (" + strings.Join(l.Why, ", ") + ")"
	}
	fmt.Fprintln(p.w, p.paint(s.colour, title))
	if show == tallies {
		fmt.Fprintf(p.w, "    %s\n", tally(l.Steps))
		return
	}
	for _, step := range l.Steps {
		line := fmt.Sprintf("    %-8s %-10s %s", step.Verb, step.Kind, step.Name)
		if step.Why != "" && step.Kind != plan.KindService {
			line += "  (" + step.Why + ")"
		}
		fmt.Fprintln(p.w, line)
		if show == diffs {
			p.diff(step.Diff)
		}
	}
	fmt.Fprintln(p.w)
}

// tally sums up steps by what they do: "create account, 11 directories, 7 files".
func tally(steps []plan.Step) string {
	var order []string
	counts := map[string]int{}
	for _, s := range steps {
		what := string(s.Verb) + " " + string(s.Kind)
		if counts[what]++; counts[what] == 1 {
			order = append(order, what)
		}
	}
	verb := ""
	for i, what := range order {
		v, kind, _ := strings.Cut(what, " ")
		if n := counts[what]; n > 1 {
			kind = fmt.Sprintf("%d %s", n, plurals[plan.Kind(kind)])
		}
		if v != verb {
			kind = v + " " + kind
			verb = v
		}
		order[i] = kind
	}
	return strings.Join(order, ", ")
}

var plurals = map[plan.Kind]string{
	plan.KindAccount: "accounts", plan.KindDirectory: "directories", plan.KindFile: "files", plan.KindLink: "links",
	plan.KindQuota: "quotas",
	plan.KindRules: "tables of rules", plan.KindFirewall: "firewall rules", plan.KindUnit: "units", plan.KindService: "services",
}

func (p printer) diff(text string) {
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\n")
		switch {
		case strings.HasPrefix(l, "@@"):
			continue // line numbers of a generated file help nobody
		case strings.HasPrefix(l, "+"):
			l = p.paint(green, l)
		case strings.HasPrefix(l, "-"):
			l = p.paint(red, l)
		}
		fmt.Fprintln(p.w, "        "+l)
	}
}

// summary counts what happens: "2 to create, 1 to restart, 3 unchanged."
func (p printer) summary(pl plan.Plan, unchanged int) string {
	var parts []string
	for _, a := range []plan.Action{plan.ActCreate, plan.ActStart, plan.ActRestart, plan.ActUpdate, plan.ActRemove} {
		n := 0
		for _, l := range pl.Lanes {
			if l.Action == a && len(l.Steps) > 0 {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", n, a))
		}
	}
	if unchanged > 0 {
		parts = append(parts, fmt.Sprintf("%d unchanged", unchanged))
	}
	if len(parts) == 0 {
		parts = []string{"no instance concerned"}
	}
	return p.paint(bold, strings.Join(parts, ", ")+".")
}
