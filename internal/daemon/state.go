package daemon

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencoded/opencoded/internal/control"
	"github.com/opencoded/opencoded/internal/plan"
)

// state is what the daemon knows of itself, for systemd, the socket and metrics.
type state struct {
	mu       sync.Mutex
	sources  map[string]bool
	longest  time.Duration // that an instance may take to start
	restored int           // tables of rules, since the start
	rules    error
	now      control.State
}

func (s *state) setRules(restored int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restored += restored
	s.rules = err
}

func (s *state) setSources(paths []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources = map[string]bool{}
	for _, p := range paths {
		s.sources[p] = true
	}
}

func (s *state) isSource(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sources[path]
}

func (s *state) patience() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.longest
}

func (s *state) setPatience(want plan.Desired) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest = 0
	for _, t := range want.Targets {
		s.longest = max(s.longest, t.Instance.StartTimeout)
	}
}

func (s *state) sourceList() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.sources))
}

// update changes what there is to tell.
func (s *state) update(f func(*control.State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.now)
}

// get is a copy.
func (s *state) get() control.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now
	now.RulesRestored = s.restored
	if s.rules != nil {
		now.Rules = s.rules.Error()
	}
	return now
}

// now is the whole state.
func (d *daemon) now() control.State {
	now := d.state.get()
	healthy := d.monitor.healthy()
	now.Version, now.Inventory, now.Healthy = d.Version, d.Inventory, len(healthy)
	// One that systemd has brought up since is none of them any more.
	now.Failed = slices.DeleteFunc(slices.Clone(now.Failed), func(name string) bool { return healthy[name] })
	return now
}

// sentence is for systemctl, the worst first.
func (d *daemon) sentence() string {
	now := d.now()
	var parts []string
	if now.Rules != "" {
		parts = append(parts, "Egress rules could not be restored: "+now.Rules+".")
	}
	switch {
	case len(now.Broken) > 0 && now.Loaded.IsZero():
		parts = append(parts, "The inventory cannot be used, and running instances stay as they are: "+now.Broken[0]+".")
	case len(now.Broken) > 0:
		parts = append(parts, fmt.Sprintf("The inventory cannot be used, and the one of %s is kept: %s.", now.Loaded.Format(time.TimeOnly), now.Broken[0]))
	}
	if now.Problem != "" {
		parts = append(parts, "The host could not be made as the inventory says, and is tried again: "+now.Problem+".")
	}
	if len(now.Failed) > 0 {
		parts = append(parts, "Did not come through: "+strings.Join(now.Failed, ", ")+".")
	}
	if now.Waiting > 0 {
		parts = append(parts, fmt.Sprintf("%d changes wait for `opencoded apply` (auto_apply = false).", now.Waiting))
	}
	if !now.Loaded.IsZero() {
		parts = append(parts, fmt.Sprintf("%d of %d instances healthy.", now.Healthy, now.Instances))
	}
	if now.Rules == "" {
		parts = append(parts, fmt.Sprintf("Egress rules hold; %d tables restored since the start.", now.RulesRestored))
	}
	return strings.ReplaceAll(strings.Join(parts, " "), "\n", "; ")
}
