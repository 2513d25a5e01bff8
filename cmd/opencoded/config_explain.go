package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/document"
)

// explanation is one layer's part in a value, in JSON.
type explanation struct {
	At    string          `json:"at"`
	Named string          `json:"named,omitempty"` // where a layer names the file of At
	Value json.RawMessage `json:"value,omitempty"` // absent: the layer takes it away
	Final bool            `json:"final"`
}

func (a *app) configExplain() *cobra.Command {
	var inventory string
	c := &cobra.Command{
		Use: "explain KEY (INSTANCE | LAYER…)", Short: "say which layer set a value",
		Long: `Say what value a key has, and which layer, file and line set and overrode it. The
layers are those of an instance of the inventory, by its name, or files. Of
agents and commands in files it is said too where a layer names the file.`,
		Example: "  opencoded config explain permission.bash web\n  opencoded config explain 'permission.bash.\"git *\"' team.toml mine.toml",
		Args:    atLeast(2),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := document.SplitKey(args[0])
			if err != nil {
				return usage("%q is %v", args[0], err)
			}
			bundle, problems, err := a.loadNamed(inventory, args[1:])
			if err != nil {
				return err
			}
			if len(problems.Errors()) > 0 {
				return a.refusedLayers(problems)
			}
			settings, final := bundle.Explain(path)
			if a.json {
				out := []explanation{}
				for _, s := range settings {
					out = append(out, explanation{s.Pos.String(), s.Named.String(), json.RawMessage(s.Text), s.Final})
				}
				a.print(out)
			} else {
				a.explain(args[0], settings, final)
			}
			if len(settings) == 0 {
				return exit{exitError, nil}
			}
			return nil
		},
	}
	c.Flags().StringVar(&inventory, "inventory", defaultInventory, "where instances are looked up")
	return c
}

func (a *app) explain(key string, settings []config.Setting, final *document.Value) {
	p := a.printer()
	if len(settings) == 0 {
		fmt.Fprintf(a.err, "nothing sets %s (opencoded config options %s)\n", key, key)
		return
	}
	for _, s := range settings {
		text := s.Text
		if text == "" {
			text = "taken away"
		}
		line := fmt.Sprintf("%s: %s = %s", s.Pos, key, indent(text))
		if s.Named != (document.Pos{}) {
			line += fmt.Sprintf("  (named at %s)", s.Named)
		}
		if !s.Final {
			line = p.paint(faint, line+"  (overridden)")
		}
		fmt.Fprintln(a.out, line)
	}
	// Of a table it matters who set which part of it.
	if final.Table().Len() > 0 {
		fmt.Fprintln(a.out, "in detail:")
		for _, l := range config.Leaves(final, nil) {
			fmt.Fprintf(a.out, "  %s: %s = %s\n", l.Value.Pos, document.Join(l.Path...), indent(config.Text(l.Value)))
		}
	}
}

func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n    ") }
