package blocked

import (
	"cmp"
	"slices"
	"time"
)

// MaxGroups bounds the targets that are told apart, per instance: an agent can try
// as many as it likes, and one must not crowd out the others.
const MaxGroups = 10_000

// Group are the attempts at one target.
type Group struct {
	Target
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	Logged int       `json:"logged"`
}

// Log collects attempts. The zero value is ready.
type Log struct {
	instances map[string]*record
}

type record struct {
	groups  map[Target]*Group
	logged  int
	further int
}

// Add counts an attempt.
func (l *Log) Add(a Attempt) {
	if l.instances == nil {
		l.instances = map[string]*record{}
	}
	r := l.instances[a.Instance]
	if r == nil {
		r = &record{groups: map[Target]*Group{}}
		l.instances[a.Instance] = r
	}
	r.logged++
	g := r.groups[a.Target]
	switch {
	case g == nil && len(r.groups) == MaxGroups:
		r.further++
		return
	case g == nil:
		g = &Group{Target: a.Target, First: a.Time, Last: a.Time}
		r.groups[a.Target] = g
	}
	g.Logged++
	// The clock may have been set back in between.
	if a.Time.Before(g.First) {
		g.First = a.Time
	}
	if a.Time.After(g.Last) {
		g.Last = a.Time
	}
}

// Instances are those with attempts, sorted.
func (l *Log) Instances() []string {
	var names []string
	for n := range l.instances {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Of is what is known of an instance: its groups, the most frequent first; how many
// packets were logged; and how many of them had targets beyond MaxGroups.
func (l *Log) Of(instance string) (groups []Group, logged, further int) {
	r := l.instances[instance]
	if r == nil {
		return nil, 0, 0
	}
	for _, g := range r.groups {
		groups = append(groups, *g)
	}
	slices.SortFunc(groups, func(a, b Group) int { return cmp.Or(cmp.Compare(b.Logged, a.Logged), a.compare(b.Target)) })
	return groups, r.logged, r.further
}

func (t Target) compare(o Target) int {
	truth := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(t.Instance, o.Instance), t.Address.Compare(o.Address), cmp.Compare(t.Protocol, o.Protocol),
		cmp.Compare(t.Port, o.Port), cmp.Compare(t.ICMP, o.ICMP),
		cmp.Compare(truth(t.Reported), truth(o.Reported)), cmp.Compare(truth(t.Local), truth(o.Local)))
}
