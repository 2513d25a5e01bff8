package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/schema"
)

type changeJSON struct {
	File      string          `json:"file"`
	Key       string          `json:"key"`
	Old       json.RawMessage `json:"old,omitempty"`
	New       json.RawMessage `json:"new,omitempty"`
	Reordered bool            `json:"reordered,omitempty"`
}

func (a *app) configDiff() *cobra.Command {
	var inventory string
	var exitCode bool
	c := &cobra.Command{
		Use: "diff A B", Short: "compare two configurations by meaning",
		Long: `Compare two configurations key by key: comments, formatting and the order of keys
do not count, but for the order of permission rules, which is meaning. A and B
are layers, opencode.json files or names of instances.`,
		Example: "  opencoded config diff old/opencode.json new/opencode.json\n  opencoded config diff web api",
		Args:    exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			var main, terminal [2]*document.Table
			for i, word := range args {
				bundle, problems, err := a.loadNamed(inventory, []string{word})
				if err != nil {
					return err
				}
				if len(problems.Errors()) > 0 {
					return a.refusedLayers(problems)
				}
				main[i], terminal[i] = bundle.Merged()
			}
			differs := a.printChanges(config.Diff(main[0], main[1]), config.Diff(terminal[0], terminal[1]))
			if differs && exitCode {
				return exit{exitDiffers, nil}
			}
			return nil
		},
	}
	c.Flags().StringVar(&inventory, "inventory", defaultInventory, "where instances are looked up")
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 3 if they differ")
	return c
}

func (a *app) printChanges(main, terminal []config.Change) bool {
	out := []changeJSON{}
	for _, part := range []struct {
		file    string
		changes []config.Change
	}{{schema.ConfigFile, main}, {schema.TUIFile, terminal}} {
		for _, c := range part.changes {
			if len(c.Path) == 1 && c.Path[0] == "$schema" {
				continue
			}
			out = append(out, changeJSON{part.file, document.Join(c.Path...), raw(c.Old), raw(c.New), c.Reordered})
			if !a.json {
				a.printChange(part.file, c)
			}
		}
	}
	if a.json {
		a.print(out)
	} else if len(out) == 0 {
		fmt.Fprintln(a.out, "the two say the same")
	}
	return len(out) > 0
}

func raw(v *document.Value) json.RawMessage {
	if v == nil {
		return nil
	}
	return json.RawMessage(config.Text(v))
}

func (a *app) printChange(file string, c config.Change) {
	p := a.printer()
	key := document.Join(c.Path...)
	if file != schema.ConfigFile {
		key = file + ": " + key
	}
	if c.Reordered {
		fmt.Fprintf(a.out, "%s\n", p.paint(yellow, "~ "+key+": the rules are in another order, and the last that matches wins"))
		return
	}
	if c.Old != nil {
		fmt.Fprintf(a.out, "%s\n", p.paint(red, fmt.Sprintf("- %s = %s", key, indent(config.Text(c.Old)))))
	}
	if c.New != nil {
		fmt.Fprintf(a.out, "%s\n", p.paint(green, fmt.Sprintf("+ %s = %s", key, indent(config.Text(c.New)))))
	}
}
