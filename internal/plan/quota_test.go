package plan

import (
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/instance"
)

const limitedState = `version = 1
[instances.a]
directory = "/srv/a"
resources.state_max = "1G"
`

// TestQuotaDrift: whatever holds in place of the wanted limit, the plan says so, and nothing restarts for it.
func TestQuotaDrift(t *testing.T) {
	wanted, _ := instance.Parse("i.toml", []byte(limitedState))
	free, _ := instance.Parse("i.toml", []byte(strings.Replace(limitedState, "1G", "infinity", 1)))
	limit := Quota{Dir: "/var/lib/opencode/instance-state/a", UID: 998, Bytes: 1 << 30, Files: 65536}
	for _, c := range []struct {
		name   string
		inv    *instance.Inventory
		change func(*Quota)
		want   string
	}{
		{"as wanted", wanted, func(*Quota) {}, ""},
		{"not limited", wanted, nil, "create quota " + limit.Dir + " (1 GiB, 65536 files)"},
		{"another limit", wanted, func(q *Quota) { q.Bytes, q.Files = 512<<20, 100 }, "change quota " + limit.Dir + " (1 GiB, 65536 files, was 512 MiB, 100 files)"},
		{"limit lost", wanted, func(q *Quota) { q.Bytes, q.Files = 0, 0 }, "change quota " + limit.Dir + " (1 GiB, 65536 files, was not in force)"},
		{"not inherited", wanted, func(q *Quota) { q.Unmarked = true }, "change quota " + limit.Dir + " (1 GiB, 65536 files, was without effect on new files)"},
		{"no longer wanted", free, func(*Quota) {}, "remove quota " + limit.Dir},
		{"never wanted", free, nil, ""},
	} {
		d := desire(t, c.inv, fixed(c.inv))
		d.Targets[0].NewAccount = false
		o := converged(d)
		delete(o.Quotas, "a")
		if c.change != nil {
			q := limit
			c.change(&q)
			o.Quotas["a"] = q
		}
		want := c.want
		if want != "" {
			want = "a: update\n    " + want
		}
		if got := strings.Join(lines(Diff(d, o)), "\n"); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, want)
		}
	}
}

// TestQuotaLeft: an instance that is no longer wanted loses its limit, last of all.
func TestQuotaLeft(t *testing.T) {
	p := Diff(Desired{}, Observed{Leftovers: []Leftover{{Name: "a", Active: true, Quota: &Quota{Dir: "/state/a"}}}})
	want := "a: remove (not in the inventory)\n    stop service opencode-a.service\n    remove quota /state/a"
	if got := strings.Join(lines(p), "\n"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestQuotaTaken: a project that the administrator has named is not used.
func TestQuotaTaken(t *testing.T) {
	inv, _ := instance.Parse("i.toml", []byte(limitedState))
	facts := fixed(inv)
	facts.Projects = map[uint32]string{Project(998): "/etc/projid"}
	_, problems := Desire(inv, facts)
	const want = "i.toml:4:23: instances.a.resources.state_max: the limit would be that of project 1000000998, which /etc/projid names (give the project of that file another id)"
	if len(problems) != 1 || problems[0].String() != want {
		t.Errorf("%v\nwant %s", problems, want)
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[uint64]string{
		0: "0 KiB", 4096: "4 KiB", 1536 << 10: "1.5 MiB", 1<<20 - 1: "1024 KiB", 10 << 30: "10 GiB", 1 << 40: "1 TiB", 1 << 60: "1024 PiB",
	} {
		if got := Size(bytes); got != want {
			t.Errorf("%d bytes are %s, want %s", bytes, got, want)
		}
	}
}
