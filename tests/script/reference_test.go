package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/schema"
)

// TestReferenceIsComplete: every option of the schemas is explained, and nothing
// is explained that there is not.
func TestReferenceIsComplete(t *testing.T) {
	options, err := schema.Reference()
	if err != nil {
		t.Fatal(err)
	}
	if len(options) < 400 {
		t.Errorf("%d options", len(options))
	}
	for _, o := range options {
		if o.Meaning == "" || o.Absent == "" || o.Example == "" || len(o.Types) == 0 && !strings.HasSuffix(o.Key, ".*") {
			t.Errorf("%s: %s is not explained: %+v", o.File, o.Key, o)
		}
	}
}

// TestReferenceIsUpToDate: docs/options.md is what the program says.
func TestReferenceIsUpToDate(t *testing.T) {
	want, err := exec.Command(filepath.Join(program, "opencoded"), "config", "options", "--markdown").Output()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/options.md")
	if err != nil || string(got) != string(want) {
		t.Errorf("docs/options.md is out of date (run: make docs): %v", err)
	}
}
