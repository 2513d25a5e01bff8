package netpolicy

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func (n *netns) watch() *Watcher {
	n.t.Helper()
	w, err := n.kernel.Watch()
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { w.Close() })
	return w
}

// next is the next whole event.
func (n *netns) next(w *Watcher) Event {
	n.t.Helper()
	for {
		if e := n.sign(w); !e.Begun {
			return e
		}
	}
}

func (n *netns) sign(w *Watcher) Event {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 10*time.Second)
	defer cancel()
	e, err := w.Next(ctx)
	if err != nil {
		n.t.Fatal(err)
	}
	return e
}

// Every transaction is one event, which names the tables and who made it.
func TestWatch(t *testing.T) {
	n := newNetNS(t)
	r := Rules{Layout: PerInstance, Policies: []Policy{web, api}}
	tables, err := r.Tables()
	if err != nil {
		t.Fatal(err)
	}
	n.ensure(tables...)
	w := n.watch()
	for _, c := range []struct{ commands, tables string }{
		{"add rule inet opencode-web egress accept", "opencode-web"},
		{"add element inet opencode-web allow4 { 203.0.113.0/24 }", "opencode-web"},
		{"add table ip docker; add chain ip docker x", ""},
		{"add table inet other; add counter inet opencoded-guard mine", "other opencoded-guard"},
		{"delete table inet opencode-api", "opencode-api"},
	} {
		n.nft(strings.ReplaceAll(c.commands, "; ", "\n"))
		e := n.next(w)
		if got := strings.Join(e.Tables, " "); got != c.tables || e.Process != "nft" || e.PID == 0 || e.Lost {
			t.Errorf("%s: %+v, want %q", c.commands, e, c.tables)
		}
	}
	n.run("nft", "flush", "ruleset")
	if e := n.sign(w); !e.Begun {
		t.Errorf("a flush does not begin with its first sign: %+v", e)
	}
	e := n.sign(w)
	for _, name := range []string{GuardTable, "opencode-web"} {
		if !slices.Contains(e.Tables, name) {
			t.Errorf("a flush: %+v", e)
		}
	}
	w.Close()
	if _, err := w.Next(t.Context()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w = n.watch()
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}

// After a flush the isolated are cut off until their policies are back; what is
// edited by hand is put back without that.
func TestRestore(t *testing.T) {
	w := newWorld(t)
	r := Rules{Layout: Shared, Policies: traffic}
	w.rules(t, r)
	for _, change := range []string{"flush ruleset", "delete table inet " + GuardTable, "add rule inet opencoded-egress output accept"} {
		w.host.nft(change)
		changes, err := w.host.kernel.Restore(t.Context(), r)
		if err != nil || len(changes) == 0 || changes[0].Diff == "" {
			t.Errorf("%s: %v, %v", change, changes, err)
		}
		loaded, err := w.host.kernel.List(t.Context())
		if err != nil || strings.Join(loaded, " ") != SharedTable+" "+GuardTable {
			t.Errorf("%s: loaded are %v, %v", change, loaded, err)
		}
		if changes, err := w.host.kernel.Restore(t.Context(), r); err != nil || len(changes) != 0 {
			t.Errorf("%s, again: %v, %v", change, changes, err)
		}
	}

	// The lockdown alone: nothing gets out, answers to clients do.
	w.host.run("nft", "flush", "ruleset")
	lockdown := r.Lockdown()
	w.host.ensure(lockdown)
	golden(t, "lockdown.nft", lockdown.String())
	before := w.reached["10.77.0.2"].Load()
	if c, err := w.host.dial(webUID, "tcp", "10.77.0.2:7000", brief); err == nil {
		c.Close()
		t.Error("a connection in lockdown")
	}
	if err := w.try(62004, "tcp", "10.77.0.2"); err != nil {
		t.Errorf("an open instance in lockdown: %v", err)
	}
	if err := w.try(62003, "tcp", "10.77.0.2"); err != nil {
		t.Errorf("an instance that is only reported on: %v", err)
	}
	if n := w.reached["10.77.0.2"].Load() - before; n != 2 {
		t.Errorf("%d connections arrived, want 2", n)
	}
	if _, err := w.host.kernel.Restore(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := w.try(webUID, "tcp", "10.77.0.2"); err != nil {
		t.Errorf("after the policies are back: %v", err)
	}
	if list := w.host.run("nft", "list", "tables"); strings.Contains(list, LockdownTable) {
		t.Error("the lockdown is left")
	}
}
