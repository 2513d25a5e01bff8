package config

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/opencoded/opencoded/internal/schema"
)

// BenchmarkLargeLayer composes a layer of five megabytes.
func BenchmarkLargeLayer(b *testing.B) {
	var text bytes.Buffer
	text.WriteString(`{"command": {`)
	for i := 0; text.Len() < 5<<20; i++ {
		if i > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, `"c%06d": {"template": "do $ARGUMENTS", "description": "one of many"}`, i)
	}
	text.WriteString("}}")
	b.ReportAllocs()
	for b.Loop() {
		bundle, problems := Load(files{"large.json": text.String()}, "", Source{Path: "large.json"})
		out, more := Compose(Input{Bundle: bundle, Schemas: schema.Builtin()})
		if len(problems)+len(more) > 0 || len(out.Config) < 5<<20 {
			b.Fatal(problems, more)
		}
	}
}
