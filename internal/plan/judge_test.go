package plan

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/netpolicy"
	"github.com/opencoded/opencoded/internal/sandbox"
	"github.com/opencoded/opencoded/tests/judge"
)

// TestSystemdTakesGoldens: systemd has nothing to say about any unit of testdata.
func TestSystemdTakesGoldens(t *testing.T) {
	installed := judge.SystemdVersion(t)
	// systemd looks whether a program exists, so one stands in for both.
	program, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	stand := strings.NewReplacer(opencodedBinary+" ", program+" ", opencodeBinary+" ", program+" ")
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			units := map[string]string{}
			for _, target := range s.want.Targets {
				for _, f := range target.Units {
					units[filepath.Base(f.Path)] = stand.Replace(f.Content)
				}
			}
			switch {
			case len(units) == 0:
				return
			case tooNew(s, installed):
				return
			}
			judge.Verify(t, units)
		})
	}
}

// tooNew reports whether what the scenario is about would be unknown to the
// systemd that is installed here: that is the reason why older systems do not get
// it. The tier "newer" asks one that knows.
func tooNew(s scenario, installed int) bool { return s.name == "new-systemd" && installed < 257 }

// TestExposure bounds systemd's rating of every unit, set-up units included. What
// is left of it is explained beside sandbox's table of hardening.
func TestExposure(t *testing.T) {
	installed := judge.SystemdVersion(t)
	for _, s := range scenarios(t) {
		if tooNew(s, installed) {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			for _, target := range s.want.Targets {
				limit := 1.1
				switch {
				case len(target.Instance.ExtraGroups) > 0: // counts 0.1
				case sandbox.SystemdFilters(target.Instance):
					limit = 1.0
				}
				if target.Instance.Sandbox.AllowNamespaces {
					limit += 1.0
				}
				for _, f := range target.Units {
					if got := judge.Exposure(t, filepath.Base(f.Path), f.Content); got > limit {
						t.Errorf("%s is rated %.1f, more than %.1f", filepath.Base(f.Path), got, limit)
					}
				}
			}
		})
	}
}

// TestNftTakesGoldens: the kernel would take the very text that plan shows.
func TestNftTakesGoldens(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			for _, table := range []*netpolicy.Table{s.want.Guard, s.want.Shared} {
				if table != nil {
					judge.Rules(t, table.String())
				}
			}
			for _, target := range s.want.Targets {
				if target.Egress != nil {
					judge.Rules(t, target.Egress.String())
				}
			}
		})
	}
}
