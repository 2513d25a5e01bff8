package escape

import (
	"testing"
	"time"
)

// probe is one thing that is tried from inside of an instance.
type probe struct {
	name  string
	tries string // what is tried, in the document's words
	call  call
	want  string // how it ends: the name of an error, "succeeded", or a word that call returns

	why     string        // why it may succeed
	needs   string        // without which it cannot be tried, see missing
	control control       // what the same gives as root outside
	limit   time.Duration // after which it counts as hanging
}

// call tries it, and returns nil, a unix.Errno, or an outcome. It must be harmless where it succeeds: root runs it
// too, and a machine shares the kernel of the host.
type call func() error

// outcome is a result that is no error number.
type outcome string

func (o outcome) Error() string { return string(o) }

const succeeded = "succeeded"

type control int

const (
	differs   control = iota // root outside gets another result, so the refusal is the sandbox's
	everybody                // the kernel refuses root outside as well
	depends                  // on how kernel and machine were made
	inside                   // means something only inside of an instance
)

func try(name, tries string, call call, want string) probe {
	p := probe{name: name, tries: tries, call: call, want: want, limit: 2 * time.Second}
	if want == succeeded {
		p.control = inside
	}
	return p
}

// may is what succeeds, and is meant to.
func may(name, tries string, call call, why string) probe {
	p := try(name, tries, call, succeeded)
	p.why = why
	return p
}

// work is ordinary work: a shell script in an empty directory of the project.
func work(name, tries, script string) probe {
	p := try(name, tries, shell(script), succeeded)
	p.limit = 40 * time.Second
	return p
}

func (p probe) with(needs string) probe      { p.needs = needs; return p }
func (p probe) compare(c control) probe      { p.control = c; return p }
func (p probe) within(d time.Duration) probe { p.limit = d; return p }

// category is a section of the document.
type category struct {
	id, title string
	probes    []probe
}

var categories = []category{
	{"files", "Files", append(fileProbes, procProbes...)},
	{"processes", "Processes", processProbes},
	{"kernel", "Kernel interfaces", append(kernelProbes, socketProbes...)},
	{"ipc", "Sockets, queues and shared memory", ipcProbes},
	{"network", "Network, with restricted egress", networkProbes},
	{"opencode", "opencode and its configuration", opencodeProbes},
	{workID, "Ordinary work", workProbes},
}

const workID = "work"

func find(name string) (probe, bool) {
	for _, c := range categories {
		for _, p := range c.probes {
			if p.name == name {
				return p, true
			}
		}
	}
	return probe{}, false
}

// TestTable: names are unique, what succeeds says why, and there are as many probes as are promised.
func TestTable(t *testing.T) {
	seen, escapes, works := map[string]bool{}, 0, 0
	for _, c := range categories {
		for _, p := range c.probes {
			if seen[p.name] {
				t.Errorf("two probes are called %s", p.name)
			}
			seen[p.name] = true
			if c.id == workID {
				works++
				continue
			}
			escapes++
			if (p.want == succeeded) != (p.why != "") {
				t.Errorf("%s: %s, with the reason %q", p.name, p.want, p.why)
			}
		}
		t.Logf("%s: %d probes", c.id, len(c.probes))
	}
	if escapes < 200 || works < 40 {
		t.Errorf("%d probes and %d pieces of ordinary work, want 200 and 40", escapes, works)
	}
}
