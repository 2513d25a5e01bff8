package netpolicy

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// manyPolicies are isolated instances that may each reach eight networks.
func manyPolicies(count int) []Policy {
	var out []Policy
	for i := range count {
		p := Policy{Name: fmt.Sprintf("i%d", i), UID: uint32(61000 + i), Port: uint16(9000 + i), Isolated: true}
		for j := range 8 {
			p.Allow = append(p.Allow, allow(fmt.Sprintf("11.%d.%d.%d/28", i>>8, i&255, j*32))...)
		}
		out = append(out, p)
	}
	return out
}

// loaded is a namespace with the rules of a thousand instances to load.
type loaded struct {
	*netns
	rules  Rules
	tables []Table
	file   string // of nft -f
}

func newLoaded(b *testing.B) loaded {
	l := loaded{netns: newNetNS(b), rules: Rules{Layout: Shared, Policies: manyPolicies(1000)}, file: filepath.Join(b.TempDir(), "rules.nft")}
	var err error
	if l.tables, err = l.rules.Tables(); err != nil {
		b.Fatal(err)
	}
	text := ""
	for _, t := range l.tables {
		text += t.String()
	}
	if err := os.WriteFile(l.file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return l
}

func (l loaded) flush() { l.run("nft", "flush", "ruleset") }

// nftFile is what ours is set against. It reads nothing back.
func (l loaded) nftFile() time.Duration {
	began := time.Now()
	l.run("nft", "-f", l.file)
	return time.Since(began)
}

// BenchmarkLoad: a thousand policies into an empty kernel, written, read back and compared.
func BenchmarkLoad(b *testing.B) {
	l, f := newLoaded(b), figures{}
	for b.Loop() {
		l.flush()
		nft := l.nftFile()
		l.flush()
		began := time.Now()
		l.ensure(l.tables...)
		f.add("loaded/nft-f", time.Since(began).Seconds()/nft.Seconds())
	}
	f.report(b)
}

// BenchmarkRestore: how long after a flush a thousand isolated instances are cut off again, and how long until their
// policies are back.
func BenchmarkRestore(b *testing.B) {
	l, f := newLoaded(b), figures{}
	for b.Loop() {
		l.flush()
		unheard := l.nftFile()
		l.flush()
		w := l.watch() // who listens makes each change dearer, whoever makes it
		nft := l.nftFile()
		w.Close()
		l.ensure(l.tables...)
		w = l.watch()
		l.flush()
		began := time.Now()
		l.sign(w)
		if _, err := l.kernel.CutOff(b.Context(), l.rules); err != nil {
			b.Fatal(err)
		}
		f.add("cut-off-ms", time.Since(began).Seconds()*1e3)
		if _, err := l.kernel.Restore(b.Context(), l.rules); err != nil {
			b.Fatal(err)
		}
		restored := time.Since(began).Seconds()
		f.add("restored/nft-f", restored/nft.Seconds())
		f.add("restored/nft-f-unheard", restored/unheard.Seconds())
		w.Close()
	}
	f.report(b)
}

// BenchmarkEnsure: what one start of a unit asks of the kernel, where all is in place, against reading the tables whole.
func BenchmarkEnsure(b *testing.B) {
	l, f := newLoaded(b), figures{}
	l.ensure(l.tables...)
	for b.Loop() {
		began := time.Now()
		l.ensure(l.tables...)
		whole := time.Since(began)
		began = time.Now()
		changes, err := l.kernel.EnsurePart(b.Context(), l.rules, "i500")
		if err != nil || len(changes) > 0 {
			b.Fatal(changes, err)
		}
		f.add("ensure/whole", time.Since(began).Seconds()/whole.Seconds())
	}
	f.report(b)
}

// figures are the values of each measurement, by its unit.
type figures map[string][]float64

func (f figures) add(unit string, value float64) { f[unit] = append(f[unit], value) }

// report gives the medians.
func (f figures) report(b *testing.B) {
	b.ReportMetric(0, "ns/op") // of all that a round does: says nothing
	for unit, values := range f {
		slices.Sort(values)
		b.ReportMetric((values[(len(values)-1)/2]+values[len(values)/2])/2, unit)
	}
}
