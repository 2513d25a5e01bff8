package machine

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// insideVariable is set where a test binary runs within a machine: one of this package, or a virtual machine into
// which it was copied by hand.
const insideVariable = "OPENCODED_MACHINE"

// HostVariable holds what every inventory of the machine has to say in its table [host], as TOML: where unit files go,
// on a system whose /etc is read-only.
const HostVariable = "OPENCODED_MACHINE_HOST"

// reportInside is where the tiers that could not run inside are collected (package tier), for the caller's report.
const reportInside = "/run/opencoded-tier-report"

// Inside reports whether this process runs in a machine that it may do anything to.
func Inside() bool { return os.Getenv(insideVariable) != "" }

// Run runs a scenario in a machine of its own. Inside of a machine it is a plain call of scenario. Outside it boots
// one, brings this test binary into it, and runs there the one test that t is, whose output it passes on; so the
// scenario may depend on nothing outside but what opts.Binds brings. The kernel log is the host's from the boot on:
// lines of machines that run at the same time show in all their journals.
//
//	func TestScenarios(t *testing.T) {
//		tier.Need(t, "scenario", tier.Machine())
//		for name, scenario := range scenarios {
//			t.Run(name, func(t *testing.T) { machine.Run(t, machine.Options{Name: "scenario"}, scenario) })
//		}
//	}
func Run(t *testing.T, opts Options, scenario func(t *testing.T)) {
	t.Helper()
	if Inside() {
		scenario(t)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	inside := "/usr/local/lib/opencoded-machine/" + filepath.Base(self)
	opts.Binds = append(slices.Clone(opts.Binds), Bind{self, inside})
	if opts.Log == nil {
		opts.Log = t.Output()
	}
	m, err := Boot(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})

	RunTest(t, m, inside)
}

// Place is where a test can be run instead of here.
type Place interface {
	// RunProgram runs a program until it or ctx ends, with these variables besides the usual ones.
	RunProgram(ctx context.Context, out io.Writer, env []string, argv ...string) error

	// ReadFile returns the content of a file there.
	ReadFile(path string) ([]byte, error)

	// Diagnose is what to look at when something there went wrong.
	Diagnose() string
}

// RunTest runs the one test that t is in another place, with this test binary, which is there at that path, and passes
// on its output, its verdict and what could not run.
func RunTest(t *testing.T, where Place, binary string) {
	t.Helper()
	ctx, timeout := t.Context(), "0"
	if deadline, ok := t.Deadline(); ok {
		// Less than our own, so that what hangs is shown by the test that hangs.
		left := max(time.Until(deadline)-10*time.Second, time.Second)
		timeout = left.String()
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left+5*time.Second)
		defer cancel()
	}
	out := &relay{t: t}
	err := where.RunProgram(ctx, out, []string{insideVariable + "=1", "REQUIRE=" + os.Getenv("REQUIRE"), "TIER_REPORT=" + reportInside, HostVariable + "=" + os.Getenv(HostVariable)},
		binary, "-test.run", exactly(t.Name()), "-test.v", "-test.timeout", timeout, fmt.Sprintf("-test.short=%t", testing.Short()))
	out.flush()
	passOnReport(t, where)

	// The exit code is also 0 when no test matched, so the verdict is asked for by name.
	switch {
	case err != nil:
		t.Errorf("failed inside of the machine: %v\n%s", err, where.Diagnose())
	case out.said("--- SKIP: " + t.Name() + " "):
		t.Skip("skipped inside of the machine")
	case !out.said("--- PASS: " + t.Name() + " "):
		t.Errorf("did not run inside of the machine (does TestMain run it, under the same name?)")
	}
}

// exactly is the pattern of -test.run that matches one test and none else.
func exactly(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// passOnReport appends what could not run inside to the report of what could not run.
func passOnReport(t *testing.T, where Place) {
	text, err := where.ReadFile(reportInside)
	path := os.Getenv("TIER_REPORT")
	if err != nil || path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		t.Error(err)
	}
}

// relay passes whole lines on to the test's output as they come and remembers the verdicts among them.
type relay struct {
	t        *testing.T
	mu       sync.Mutex
	partial  []byte
	verdicts []string
}

func (r *relay) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.partial = append(r.partial, p...)
	for {
		i := slices.Index(r.partial, '\n')
		if i < 0 {
			return len(p), nil
		}
		r.line(string(r.partial[:i]))
		r.partial = r.partial[i+1:]
	}
}

func (r *relay) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.partial) > 0 {
		r.line(string(r.partial))
		r.partial = nil
	}
}

func (r *relay) line(text string) {
	if verdict := strings.TrimSpace(text); strings.HasPrefix(verdict, "--- ") {
		r.verdicts = append(r.verdicts, verdict)
	}
	// Barred, so that nobody who reads the log takes the inner verdicts for the outer ones.
	fmt.Fprintln(r.t.Output(), "| "+text)
}

func (r *relay) said(verdict string) bool {
	return slices.ContainsFunc(r.verdicts, func(v string) bool { return strings.HasPrefix(v, verdict) })
}
