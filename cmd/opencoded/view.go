package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/plan"
)

// view shows how an apply comes along: on a terminal one line for each instance
// under way, rewritten in place; elsewhere one plain line for each change.
type view struct {
	mu      sync.Mutex
	w       io.Writer
	live    bool
	changed map[string]bool // instances that the plan touches
	began   map[string]time.Time
	states  map[string]string // of those under way
	drawn   int               // lines that the live part has on the screen
}

// liveLines bounds the live part, so that it never outgrows a terminal.
const liveLines = 12

func newView(w io.Writer, p plan.Plan) *view {
	v := &view{w: w, live: terminal(w), changed: map[string]bool{"": true}, began: map[string]time.Time{}, states: map[string]string{}}
	for _, l := range p.Lanes {
		v.changed[l.Instance] = len(l.Steps) > 0
	}
	return v
}

func (v *view) event(e host.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	// An untouched instance is only worth a line when something is wrong with it.
	if !v.changed[e.Instance] && e.Err == nil {
		return
	}
	name := e.Instance
	if name == "" {
		name = "host"
	}
	if v.began[name].IsZero() {
		v.began[name] = time.Now()
	}
	v.erase()
	line := name + ": " + e.State
	if e.Done {
		delete(v.states, name)
		if e.Err != nil {
			line += ": " + e.Err.Error()
		} else {
			line += fmt.Sprintf(" after %s", seconds(time.Since(v.began[name])))
		}
		fmt.Fprintln(v.w, line)
	} else {
		v.states[name] = e.State
		if !v.live {
			fmt.Fprintln(v.w, line)
		}
	}
	v.draw()
}

// erase takes the live part off the screen.
func (v *view) erase() {
	if v.drawn > 0 {
		fmt.Fprintf(v.w, "\x1b[%dF\x1b[J", v.drawn)
		v.drawn = 0
	}
}

func (v *view) draw() {
	if !v.live {
		return
	}
	names := make([]string, 0, len(v.states))
	for n := range v.states {
		names = append(names, n)
	}
	slices.Sort(names)
	var b strings.Builder
	for i, n := range names {
		v.drawn++
		if i == liveLines {
			fmt.Fprintf(&b, "  … and %d more\n", len(names)-i)
			break
		}
		fmt.Fprintf(&b, "  %s: %s …\n", n, v.states[n])
	}
	io.WriteString(v.w, b.String())
}

func (v *view) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.erase()
}
