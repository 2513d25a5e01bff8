package tier

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// verdict stands in for a test and records how Need ended it.
type verdict struct {
	testing.TB
	failed, skipped string
}

func (v *verdict) Helper() {}
func (v *verdict) Fatalf(format string, args ...any) {
	v.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
func (v *verdict) Skipf(format string, args ...any) {
	v.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func need(name string, err error) *verdict {
	v, done := &verdict{}, make(chan struct{})
	go func() {
		defer close(done)
		Need(v, name, err)
	}()
	<-done
	return v
}

func TestNeed(t *testing.T) {
	report := filepath.Join(t.TempDir(), "report")
	t.Setenv("TIER_REPORT", report)
	missing := errors.New("no command frob\n(apt-get install frob)")

	t.Setenv("REQUIRE", "")
	if v := need("kernel", nil); v.failed != "" || v.skipped != "" {
		t.Errorf("nothing missing: failed %q, skipped %q", v.failed, v.skipped)
	}
	const reason = "kernel: no command frob (apt-get install frob)"
	if v := need("kernel", missing); v.skipped != "tier kernel cannot run here: no command frob (apt-get install frob)" || v.failed != "" {
		t.Errorf("missing: failed %q, skipped %q", v.failed, v.skipped)
	}
	if text, err := os.ReadFile(report); err != nil || string(text) != reason+"\n" {
		t.Errorf("report: %q, %v", text, err)
	}

	t.Setenv("REQUIRE", "all")
	if v := need("kernel", missing); v.failed == "" || v.skipped != "" {
		t.Errorf("missing and required: failed %q, skipped %q", v.failed, v.skipped)
	}
}

// A probe that fails says what to do.
func TestProbes(t *testing.T) {
	_, opencodeErr := Opencode()
	_, postgresErr := Postgres()
	for name, err := range map[string]error{
		"root": Root(), "nftables": Nftables(), "machine": Machine(), "opencode": opencodeErr, "postgres": postgresErr,
	} {
		if err != nil {
			t.Logf("%s: %v", name, err)
		}
	}
}
