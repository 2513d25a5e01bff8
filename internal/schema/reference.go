package schema

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/opencoded/opencoded/internal/document"
)

// Option is one option with what it means, in this project's own words.
type Option struct {
	Shape
	File       string // opencode.json or tui.json
	Meaning    string
	Absent     string // what opencode does without it
	Example    string // TOML, as in a layer
	Deprecated string // what to use instead; empty for most
	Secret     bool   // its value does not belong into a file
	Set        bool   // a list that layers unite
}

//go:embed reference/*.toml
var referenceFiles embed.FS

// texts reads the reference of a file, in its order.
func texts(file string) (*document.Table, error) {
	name := "reference/" + strings.TrimSuffix(file, ".json") + ".toml"
	if file == ConfigFile {
		name = "reference/config.toml"
	}
	data, err := referenceFiles.ReadFile(name)
	if err != nil {
		return nil, err
	}
	t, problems := document.ParseTOML(name, data)
	if len(problems) > 0 {
		return nil, fmt.Errorf("internal error: %v", problems[0])
	}
	return t, nil
}

// Options lists what a file can say, in the order of the reference; what only the
// schema knows, because it is that of a newer opencode, comes last.
func (s *Schema) Options() ([]Option, error) {
	shapes, err := s.Shapes()
	if err != nil {
		return nil, err
	}
	known, err := texts(s.file)
	if err != nil {
		return nil, err
	}
	shapes = slices.Clone(shapes)
	var out []Option
	for e := range known.All() {
		i := slices.IndexFunc(shapes, func(o Shape) bool { return o.Key == e.Key })
		if i < 0 {
			continue // not in this version
		}
		out = append(out, optionOf(s.file, shapes[i], e.Value.Table()))
		shapes = slices.Delete(shapes, i, i+1)
	}
	for _, o := range shapes {
		out = append(out, optionOf(s.file, o, nil))
	}
	return out, nil
}

func optionOf(file string, shape Shape, t *document.Table) Option {
	text := func(key string) string { s, _ := t.Get(key).Text(); return strings.TrimSpace(s) }
	o := Option{
		Shape: shape, File: file, Meaning: text("meaning"), Absent: text("default"), Example: text("example"),
		Deprecated: text("deprecated"), Set: IsSet(strings.Split(shape.Key, ".")),
	}
	o.Secret = t.Get("secret") != nil && t.Get("secret").Data == true
	return o
}

// Matches reports whether a key that a user writes is this option: of
// "agent.build.prompt" the option is "agent.*.prompt".
func (o Option) Matches(key []string) bool { return slices.EqualFunc(o.path, key, matchPart) }

// Below reports whether the option belongs to the table that a user names.
func (o Option) Below(key []string) bool {
	return len(o.path) > len(key) && slices.EqualFunc(o.path[:len(key)], key, matchPart)
}

func matchPart(pattern, part string) bool {
	return pattern == "*" || strings.TrimSuffix(pattern, "[]") == part
}

// Annotated is the schema with what each option means, for editors.
func (s *Schema) Annotated() ([]byte, error) {
	root, err := decode(s.text) // a copy of its own, to write into
	if err != nil {
		return nil, fmt.Errorf("cannot read the schema of %s: %w", s.file, err)
	}
	options, err := s.Options()
	if err != nil {
		return nil, err
	}
	meaning := map[string]string{}
	for _, o := range options {
		text := o.Meaning
		if o.Absent != "" {
			text += "\n\nDefault: " + o.Absent
		}
		if o.Deprecated != "" {
			text = "Out of date: use " + o.Deprecated + ". " + text
		}
		meaning[o.Key] = strings.TrimSpace(text)
	}
	w := walker{root: root, seen: map[string]int{}, visit: func(key string, at *jsonschema.Schema) {
		if at.Description == "" {
			at.Description = meaning[key]
		}
	}}
	w.walk(root, nil)
	root.Title = s.file + " of opencode"
	text, err := json.MarshalIndent(root, "", "  ")
	return append(text, '\n'), err
}

// Reference lists the options of both files of the version that opencoded knows.
var Reference = sync.OnceValues(func() ([]Option, error) {
	main, err := Builtin().Config.Options()
	if err != nil {
		return nil, err
	}
	terminal, err := Builtin().TUI.Options()
	return append(main, terminal...), err
})
