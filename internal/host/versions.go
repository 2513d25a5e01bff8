package host

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/internal/schema"
)

// versionsFile remembers which version a program is, by its stamp, so that it is
// asked once and not at every look at the host. It is gone with the next boot.
const versionsFile = RunDir + "/versions.json"

// versions answers from memory where it can.
type versions struct {
	known map[string]string
	asked bool
}

func readVersions() versions {
	v := versions{known: map[string]string{}}
	if text, err := os.ReadFile(versionsFile); err == nil {
		_ = json.Unmarshal(text, &v.known) // what cannot be read is asked again
	}
	return v
}

func (v *versions) of(ctx context.Context, b plan.Binary) (string, error) {
	if known, ok := v.known[b.Stamp]; ok {
		return known, nil
	}
	version, err := askVersion(ctx, b.Resolved)
	if err != nil {
		return "", err
	}
	v.known[b.Stamp], v.asked = version, true
	return version, nil
}

// save is an attempt: who cannot write there asks again.
func (v *versions) save() {
	if !v.asked || os.Geteuid() != 0 {
		return
	}
	text, err := json.Marshal(v.known)
	if err == nil && os.MkdirAll(filepath.Dir(versionsFile), 0o755) == nil {
		_ = writeFile(plan.File{Path: versionsFile, Mode: 0o644, Content: string(text)})
	}
}

// findSchemas finds out what the opencode of each instance accepts. Instances
// whose configuration says nothing need no answer.
func (c *checker) findSchemas(ctx context.Context) {
	c.facts.Schemas = map[string]schema.Set{}
	v := readVersions()
	defer v.save()
	for _, i := range c.inv.Instances {
		binary, found := c.facts.Binaries[i.Opencode]
		if _, done := c.facts.Schemas[i.Opencode]; done || !found || c.facts.Bundles[i.Name].Empty() {
			continue
		}
		c.facts.Schemas[i.Opencode] = c.schemas(ctx, i, binary, &v)
		binary.Version = v.known[binary.Stamp]
		c.facts.Binaries[i.Opencode] = binary
	}
}

func (c *checker) schemas(ctx context.Context, i *instance.Instance, binary plan.Binary, v *versions) schema.Set {
	version, err := v.of(ctx, binary)
	if err != nil {
		c.problems.Add(document.Warning, i.At("opencode"), "", "%v; configurations are checked as those of %s", err, schema.BuiltinVersion)
		return schema.Builtin()
	}
	set, exact, err := Schemas(version)
	switch {
	case err != nil:
		c.problems.Add(document.Warning, i.At("opencode"), "", "%v; configurations are checked as those of %s", err, set.Version)
	case !exact:
		c.problems.Add(document.Warning, i.At("opencode"), "opencoded config schema import --opencode "+quote(binary.Resolved),
			"%s is opencode %s, and what that accepts is not known here: configurations are checked as those of %s", binary.Resolved, version, set.Version)
	}
	return set
}
