package host

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/internal/schema"
)

// SchemaDir holds the schemas of opencode versions that were imported.
const SchemaDir = instance.DataDir + "/schemas"

const schemaFile = "config.schema.json"

// Schemas returns what a version of opencode accepts, as near as it is known
// here: exact says whether the schemas are those of that very version. An empty
// version means the one that opencoded itself knows.
func Schemas(version string) (set schema.Set, exact bool, err error) {
	builtin := schema.Builtin()
	if version == "" {
		return builtin, true, nil
	}
	nearest := schema.Nearest(version, SchemaVersions())
	if nearest == builtin.Version {
		return builtin, nearest == version, nil
	}
	text, err := os.ReadFile(filepath.Join(SchemaDir, nearest, schemaFile))
	if err != nil {
		return builtin, false, fmt.Errorf("cannot read the schema of opencode %s: %w", nearest, err)
	}
	set = schema.Set{Version: nearest, Config: schema.New(schema.ConfigFile, text), TUI: builtin.TUI}
	if err := set.Config.Valid(); err != nil {
		return builtin, false, fmt.Errorf("%w (opencoded config schema import --opencode PATH writes it anew)", err)
	}
	return set, nearest == version, nil
}

// SchemaVersions lists the versions of opencode whose schemas are known here.
func SchemaVersions() []string {
	out := []string{schema.BuiltinVersion}
	found, _ := filepath.Glob(filepath.Join(SchemaDir, "*", schemaFile)) // the pattern is well-formed
	for _, path := range found {
		v := filepath.Base(filepath.Dir(path))
		if schema.ParseVersion(v) == v && v != schema.BuiltinVersion {
			out = append(out, v)
		}
	}
	return out
}

// SaveSchema keeps the schema of a version for later checks. Root's work.
func SaveSchema(version string, text []byte) (string, error) {
	if schema.ParseVersion(version) != version {
		return "", fmt.Errorf("%q is not a version", version)
	}
	dir := filepath.Join(SchemaDir, version)
	if err := os.MkdirAll(instance.DataDir, 0o711); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, schemaFile)
	return path, writeFile(plan.File{Path: path, Mode: 0o644, Content: string(text)})
}
