package bench

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkHundred is a host of a hundred instances, from nothing to converged. As
// a smoke (-benchtime=1x) it runs once, with unrestricted egress only.
func BenchmarkHundred(b *testing.B) {
	b.Run("open", func(b *testing.B) { hundred(b, inventory(false)) })
	if smoke() {
		return
	}
	b.Run("isolated", func(b *testing.B) { hundred(b, inventory(true)) })
}

func smoke() bool { return flag.Lookup("test.benchtime").Value.String() == "1x" }

// plans is how often a plan is measured in each machine.
const plans = 5

func hundred(b *testing.B, inventory string) {
	programs := binds(b)
	f := figures{}
	for b.Loop() {
		h := boot(b, programs, inventory)
		f.coldApply(h)
		for range plans {
			f.plan(h)
		}
		h.close()
	}
	b.ReportMetric(0, "ns/op") // all of it together, with the boot: says nothing
	f.report(b)
}

// coldApply is the first `opencoded apply` on a fresh host: accounts, directories,
// files, rules, units, start, health. It is set against what it cannot be quicker
// than: `systemctl start` of the same units in the same machine, after they were
// stopped and the rules flushed, as after a boot.
func (f figures) coldApply(h host) {
	apply := h.time("opencoded", "apply")
	h.time(append([]string{"systemctl", "stop"}, services()...)...)
	h.time("nft", "flush", "ruleset")
	start := h.time(append([]string{"systemctl", "start"}, services()...)...)
	f.add("apply-s", apply.Wall.Seconds())
	f.add("start-s", start.Wall.Seconds())
	f.add("apply/start", apply.Wall.Seconds()/start.Wall.Seconds())
	// With nothing to do it still asks every server whether it answers.
	again := h.time("opencoded", "apply")
	if !strings.HasPrefix(again.Output, "Nothing to do") {
		h.b.Fatalf("after a restart there is something to do:\n%s", again.Output)
	}
	f.add("apply-again-ms", milliseconds(again.Wall))
}

// plan is `opencoded plan` where nothing is to do, the whole process, beside the
// floor: `opencoded version`, which only starts and ends.
func (f figures) plan(h host) {
	plan, floor := h.time("opencoded", "plan"), h.time("opencoded", "version")
	if !strings.HasPrefix(plan.Output, "Nothing to do") {
		h.b.Fatalf("there is something to do:\n%s", plan.Output)
	}
	f.add("plan-ms", milliseconds(plan.Wall))
	f.add("plan-cpu-ms", milliseconds(plan.CPU))
	f.add("version-ms", milliseconds(floor.Wall))
	f.add("plan/version", plan.Wall.Seconds()/floor.Wall.Seconds())
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

// figures are the values of each measurement, by its unit.
type figures map[string][]float64

func (f figures) add(unit string, value float64) { f[unit] = append(f[unit], value) }

// report gives the middle value of each, and the least and the greatest.
func (f figures) report(b *testing.B) {
	for unit, values := range f {
		slices.Sort(values)
		b.ReportMetric((values[(len(values)-1)/2]+values[len(values)/2])/2, unit)
		if len(values) > 1 {
			b.ReportMetric(values[0], unit+":min")
			b.ReportMetric(values[len(values)-1], unit+":max")
		}
	}
}
