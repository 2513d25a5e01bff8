package plan

import (
	"fmt"

	"github.com/opencoded/opencoded/internal/document"
)

// Quota limits the disk space that a state directory takes: the directory with all below it is a project of the file
// system's quotas.
type Quota struct {
	Dir      string
	UID      uint32 // of the instance
	Bytes    uint64 // 0: no limit
	Files    uint64 // the same; directories count
	Unmarked bool   // of an observed one: what is made in the directory is not counted
}

// Project is the id of the project of an account: 1000000997 for uid 997. Administrators and container engines number
// theirs from 1.
func Project(uid uint32) uint32 { return 1_000_000_000 + uid }

// bytesPerFile is how much space comes with each file, as mke2fs lays file systems out. Without a limit of their
// number, empty files would use up what all others need too.
const bytesPerFile = 16 << 10

func (b *builder) quota() {
	i, uid := b.i, b.t.Account.UID
	if i.Resources.StateMax == 0 {
		return
	}
	if file := b.facts.Projects[Project(uid)]; file != "" {
		b.problems.Add(document.Error, i.At("resources.state_max"), "give the project of that file another id",
			"instances.%s.resources.state_max: the limit would be that of project %d, which %s names", i.Name, Project(uid), file)
	}
	b.t.Quota = &Quota{Dir: i.StateDir, UID: uid, Bytes: i.Resources.StateMax, Files: i.Resources.StateMax / bytesPerFile}
}

// quota compares the wanted limit of a state directory with the one that holds; nil wants none.
func (d *differ) quota(name string, want *Quota) {
	have, limited := d.have.Quotas[name]
	switch {
	case want == nil && limited:
		d.add(Step{Verb: Remove, Kind: KindQuota, Name: have.Dir, Quota: &have})
	case want == nil || limited && have == *want:
	default:
		s := Step{Verb: Create, Kind: KindQuota, Name: want.Dir, Quota: want, Why: want.limit()}
		if limited {
			s.Verb = Change
			s.Why += ", was " + have.limit()
		}
		d.add(s)
	}
}

func (q Quota) limit() string {
	switch {
	case q.Unmarked:
		return "without effect on new files"
	case q.Bytes == 0:
		return "not in force"
	default:
		return fmt.Sprintf("%s, %d files", Size(q.Bytes), q.Files)
	}
}

// Size is an amount of space in the largest unit that leaves a number above 1, with a digit behind the point unless it
// is 0.
func Size(bytes uint64) string {
	n, unit := float64(bytes)/1024, 0
	for n >= 1024 && unit < 4 {
		n, unit = n/1024, unit+1
	}
	text := fmt.Sprintf("%.1f", n)
	if text[len(text)-1] == '0' {
		text = text[:len(text)-2]
	}
	return text + " " + []string{"KiB", "MiB", "GiB", "TiB", "PiB"}[unit]
}
