package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencoded/opencoded/tests/operator"
)

// BenchmarkConfigBuild times `opencoded config build` as a whole process: of a
// configuration with fifteen agents, against `opencoded version`, which only
// starts and ends; and of a layer of five megabytes.
func BenchmarkConfigBuild(b *testing.B) {
	program := operator.Opencoded(b).Source
	dir := b.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	write("team.toml", fifteenAgents())
	write("mcp.jsonc", `{"mcp": {"docs": {"type": "remote", "url": "https://mcp.example.com", "headers": {"X": "{env:X}"}}}} // tools`)
	write("mine.json", `{"share": "disabled", "agent": {"a3": {"temperature": 0.3}}}`)
	write("large.json", largeLayer(5<<20))

	var build, version, large []time.Duration
	var peak int64
	for b.Loop() {
		for range 10 {
			wall, _ := whole(b, dir, program, "config", "build", "-o", "out.json", "team.toml", "mcp.jsonc", "mine.json")
			build = append(build, wall)
			wall, _ = whole(b, dir, program, "version")
			version = append(version, wall)
		}
		wall, rss := whole(b, dir, program, "config", "build", "-o", "large-out.json", "large.json")
		large, peak = append(large, wall), max(peak, rss)
	}
	b.ReportMetric(medianMS(build), "build-ms")
	b.ReportMetric(medianMS(version), "version-ms")
	b.ReportMetric(medianMS(build)/medianMS(version), "build/version")
	b.ReportMetric(medianMS(large), "5MB-ms")
	b.ReportMetric(float64(peak)/1024/5, "MB/MB")
	b.ReportMetric(0, "ns/op")
}

// whole runs a process and returns how long it took and its memory at most, in KiB.
func whole(b *testing.B, dir, program string, args ...string) (time.Duration, int64) {
	b.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	err := cmd.Run()
	wall := time.Since(began)
	if err != nil {
		b.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return wall, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
}

func medianMS(list []time.Duration) float64 {
	slices.Sort(list)
	return float64(list[len(list)/2].Microseconds()) / 1000
}

func fifteenAgents() string {
	var s strings.Builder
	s.WriteString("model = \"anthropic/claude-sonnet-4-5\"\ninstructions = [\"docs/*.md\"]\n\n[permission]\n\"*\" = \"ask\"\nbash = { \"*\" = \"ask\", \"git *\" = \"allow\" }\n")
	for n := range 15 {
		fmt.Fprintf(&s, "\n[agent.a%d]\ndescription = \"Does the %dth thing\"\nmode = \"subagent\"\nmodel = \"openai/gpt-5\"\ntemperature = 0.%d\n"+
			"prompt = \"Do the %dth thing, and do it well.\"\npermission = { edit = \"deny\", bash = { \"*\" = \"deny\", \"go test *\" = \"allow\" } }\n", n, n, n%10, n)
	}
	return s.String()
}

// largeLayer is made of prompts of half a kilobyte, as real ones are.
func largeLayer(size int) string {
	prompt := strings.Repeat("Say what is wrong, where, and how to mend it. ", 11)
	var s strings.Builder
	s.WriteString(`{"command": {`)
	for n := 0; s.Len() < size; n++ {
		if n > 0 {
			s.WriteByte(',')
		}
		fmt.Fprintf(&s, `"c%06d": {"template": %q, "description": "one of many"}`, n, prompt)
	}
	return s.String() + "}}"
}
