package main

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/plan"
)

var touched = plan.Plan{Lanes: []plan.Lane{
	{Instance: "a", Steps: []plan.Step{{}}}, {Instance: "b", Steps: []plan.Step{{}}}, {Instance: "same"},
}}

// play feeds a view what an apply reports and returns what it wrote, durations
// left out.
func play(live bool, events ...host.Event) string {
	var b bytes.Buffer
	v := newView(&b, touched)
	v.live = live
	for _, e := range events {
		v.event(e)
	}
	v.close()
	return regexp.MustCompile(`[0-9.]+ s\n`).ReplaceAllString(b.String(), "N s\n")
}

var events = []host.Event{
	{Instance: "a", State: "starting"}, {Instance: "b", State: "starting"},
	{Instance: "same", State: "waiting for health"}, {Instance: "same", State: "healthy", Done: true},
	{Instance: "a", State: "healthy", Done: true},
	{Instance: "b", State: "failed", Done: true, Err: errors.New("no")},
}

// Elsewhere than on a terminal: a line for each change, none for what the plan
// leaves alone, and no control characters.
func TestViewPlain(t *testing.T) {
	want := "a: starting\nb: starting\na: healthy after N s\nb: failed: no\n"
	if got := play(false, events...); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// On a terminal the lines of those under way are taken back before each change;
// what stays on the screen is how each of them ended.
func TestViewLive(t *testing.T) {
	got := screen(play(true, events...))
	if want := "a: healthy after N s\nb: failed: no\n"; got != want {
		t.Errorf("the screen shows %q, want %q", got, want)
	}
}

func TestViewStaysSmall(t *testing.T) {
	var b bytes.Buffer
	p := plan.Plan{}
	for i := range 100 {
		p.Lanes = append(p.Lanes, plan.Lane{Instance: fmt.Sprintf("i%02d", i), Steps: []plan.Step{{}}})
	}
	v := newView(&b, p)
	v.live = true
	for _, l := range p.Lanes {
		v.event(host.Event{Instance: l.Instance, State: "starting"})
	}
	shown := screen(b.String())
	if n := strings.Count(shown, "\n"); n != liveLines+1 || !strings.Contains(shown, "… and 88 more") {
		t.Errorf("%d lines for 100 instances:\n%s", n, shown)
	}
}

// screen is what a terminal shows after the two controls that a view uses: n
// lines up, and erase from here.
func screen(written string) string {
	up := regexp.MustCompile("\x1b\\[([0-9]+)F\x1b\\[J")
	var lines []string
	for rest := written; rest != ""; {
		m := up.FindStringSubmatchIndex(rest)
		text := rest
		if m != nil {
			text = rest[:m[0]]
		}
		for l := range strings.Lines(text) {
			lines = append(lines, l)
		}
		if m == nil {
			break
		}
		var n int
		fmt.Sscan(rest[m[2]:m[3]], &n)
		lines = lines[:len(lines)-n]
		rest = rest[m[1]:]
	}
	return strings.Join(lines, "")
}
