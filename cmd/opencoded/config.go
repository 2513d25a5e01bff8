package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/internal/schema"
)

const configHelp = `Compose, check and explain opencode.json and tui.json, without a daemon and
without an inventory.

A configuration is made of layers: files in TOML, JSON or JSON with comments,
merged in the order in which they are named. Objects merge key by key and keep
their order; lists that are sets (instructions, plugin, …) unite, other values
are replaced; null takes away what earlier layers set; { "$append": [ … ] } and
{ "$replace": … } say otherwise. A layer named tui.json, tui.jsonc or tui.toml
is for the terminal.`

func (a *app) config() *cobra.Command {
	c := &cobra.Command{
		Use: "config", Short: "compose, check and explain opencode.json", Long: configHelp,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %q (see opencoded config --help)", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.configBuild(), a.configValidate(), a.configExplain(), a.configDiff(), a.configOptions(), a.configSchema())
	return c
}

// composition are the flags of the commands that compose a configuration.
type composition struct {
	allowUnknown, strict bool
	version              string
}

func (f *composition) flags(c *cobra.Command) {
	c.Flags().BoolVar(&f.allowUnknown, "allow-unknown", false, "pass keys on that the schema does not know, with a warning")
	c.Flags().BoolVar(&f.strict, "strict", false, "warnings are errors")
	c.Flags().StringVar(&f.version, "for", "", "check against this `VERSION` of opencode (default "+schema.BuiltinVersion+", see config schema)")
}

// schemas finds the schemas of the version that was asked for.
func (f *composition) schemas() (schema.Set, error) {
	if f.version == "" {
		return schema.Builtin(), nil
	}
	set, exact, err := host.Schemas(f.version)
	if err != nil {
		return set, exit{exitError, err}
	}
	if !exact {
		return set, exit{exitError, fmt.Errorf("the schemas of opencode %s are not known here, the nearest are those of %s "+
			"(run opencoded config schema import --opencode PATH)", f.version, set.Version)}
	}
	return set, nil
}

// compose composes what was read, for a project of its own or for any (""), and
// adds what it finds to what reading has found.
func (f *composition) compose(bundle config.Bundle, project string, problems *document.Diagnostics) (config.Output, error) {
	set, err := f.schemas()
	if err != nil {
		return config.Output{}, err
	}
	out, found := config.Compose(config.Input{
		Bundle: bundle, Schemas: set, Project: project, AllowUnknown: f.allowUnknown, Strict: f.strict,
	})
	problems.AddAll(found)
	problems.Sort()
	if f.strict { // what reading has found too
		for i := range *problems {
			if (*problems)[i].Severity == document.Warning {
				(*problems)[i].Severity = document.Error
			}
		}
	}
	return out, nil
}

// layerSources are the files that a command names.
func layerSources(paths []string) ([]config.Source, error) {
	var out []config.Source
	for _, p := range paths {
		absolute, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		out = append(out, config.Source{Path: p, Original: filepath.Dir(absolute)})
	}
	return out, nil
}

// loadLayers reads the named layers as the user who asks.
func loadLayers(base string, paths []string) (config.Bundle, document.Diagnostics, error) {
	sources, err := layerSources(paths)
	if err != nil {
		return config.Bundle{}, nil, err
	}
	bundle, problems := config.Load(host.Reader{}, base, sources...)
	return bundle, problems, nil
}

// loadNamed reads what a person means by a list of words: the layers of an
// instance by its name, or files.
func (a *app) loadNamed(inventory string, words []string) (config.Bundle, document.Diagnostics, error) {
	if len(words) == 1 && !strings.ContainsAny(words[0], "/.") {
		if _, err := os.Stat(words[0]); errors.Is(err, os.ErrNotExist) {
			return a.loadInstance(inventory, words[0])
		}
	}
	return loadLayers("", words)
}

func (a *app) loadInstance(inventory, name string) (config.Bundle, document.Diagnostics, error) {
	inv, problems, err := a.load(inventory)
	if err != nil || inv == nil {
		return config.Bundle{}, problems, err
	}
	i := inv.Get(name)
	if i == nil {
		var names []string
		for _, i := range inv.Instances {
			names = append(names, i.Name)
		}
		return config.Bundle{}, nil, exit{exitError, fmt.Errorf("there is no file and no instance %q (%s has %s)", name, inventory, strings.Join(names, ", "))}
	}
	bundle, more := plan.Configuration(inv, i, host.Reader{})
	problems.AddAll(more)
	return bundle, problems, nil
}

// refusedLayers ends a command whose layers have errors.
func (a *app) refusedLayers(problems document.Diagnostics) error {
	n := len(problems.Errors())
	if n == 0 {
		return nil
	}
	if a.json {
		a.print(struct {
			Findings []finding `json:"findings"`
		}{findings(problems)})
		return exit{exitError, nil}
	}
	a.report(problems)
	return exit{exitError, errors.New(count(n, "error", "errors"))}
}
