package script

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestHostileLayers: whatever a layer holds, the answer is an error that names
// it, never a crash, and the memory that it takes is bounded.
func TestHostileLayers(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name string
		make func() []byte
		want string
	}{
		{"large.json", func() []byte {
			return append(append([]byte(`{"username": "`), bytes.Repeat([]byte("x"), 100*mib)...), `"}`...)
		}, "is larger than 64 MiB"},
		{"large.toml", func() []byte { return bytes.Repeat([]byte("#\n"), 50*mib) }, "is larger than 64 MiB"},
		{"deep.json", func() []byte { return []byte(`{"a": ` + strings.Repeat("[", 100000)) }, "is nested more than 500 deep"},
		{"deep.toml", func() []byte { return []byte("a = " + strings.Repeat("[", 100000)) }, "is nested more than 500 deep"},
		{"deep-objects.json", func() []byte { return []byte(strings.Repeat(`{"a":`, 100000)) }, "is nested more than 500 deep"},
		{"twice.json", func() []byte { return []byte(`{"share": "auto", "share": "manual"}`) }, `key "share" is there already`},
		{"twice.toml", func() []byte { return []byte("share = \"auto\"\nshare = \"manual\"\n") }, "twice.toml:2:"},
		{"encoding.json", func() []byte { return []byte("{\"username\": \"\xff\xfe\"}") }, "encoding.json:1:15: not valid UTF-8"},
		{"encoding.toml", func() []byte { return []byte("username = \"\xc3\x28\"") }, "not valid UTF-8"},
		{"zeros.json", func() []byte { return make([]byte, mib) }, "not valid JSON"},
		{"huge-number.json", func() []byte { return []byte(`{"subagent_depth": 1e999}`) }, "too large"},
		{"keys.json", func() []byte { return []byte(`{"` + strings.Repeat("k", 5*mib) + `": 1}`) }, "unknown key"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, c.name), c.make(), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(filepath.Join(program, "opencoded"), "config", "validate", c.name)
		cmd.Dir = dir
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		text := stderr.String()
		if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(text, c.want) || strings.Contains(text, "goroutine ") {
			t.Errorf("%s: %v: %.300s", c.name, err, text)
		}
		if peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss / 1024; peak > 400 {
			t.Errorf("%s took %d MiB", c.name, peak)
		}
	}
}

// TestLargeLayer: five megabytes of layer are no hostility; memory stays in
// proportion to them.
func TestLargeLayer(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`{"command": {`)
	for i := 0; b.Len() < 5<<20; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"c` + strings.Repeat("0", 6-len(strconv.Itoa(i))) + strconv.Itoa(i) + `": {"template": "do $ARGUMENTS", "description": "one of many"}`)
	}
	b.WriteString("}}")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large.json"), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(program, "opencoded"), "config", "build", "-o", "out.json", "large.json")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss / 1024; peak > 100*5 {
		t.Errorf("5 MiB took %d MiB", peak)
	}
	t.Logf("peak %d MiB, user time %v", cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss/1024, cmd.ProcessState.UserTime())
}
