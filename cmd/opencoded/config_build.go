package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/schema"
	"github.com/opencoded/opencoded/internal/tree"
)

func (a *app) configBuild() *cobra.Command {
	var f composition
	var output, base string
	c := &cobra.Command{
		Use: "build LAYER…", Short: "merge layers into opencode.json",
		Long: `Merge layers, check the result and print it as opencode.json.

With -o DIR the whole configuration directory is written: opencode.json, tui.json,
agents, skills, commands and copies of the files that layers name relative to
themselves. With -o FILE.json only that file, and tui.json beside it if a layer
says something about the terminal; files stay where they are. What is written is
the same, byte by byte, for the same layers.`,
		Example: "  opencoded config build team.toml mcp.jsonc personal.toml\n  opencoded config build -o ~/.config/opencode team.toml",
		Args:    atLeast(1),
		RunE: func(c *cobra.Command, args []string) error {
			into := outputPlace{path: output}
			at, err := into.base(base)
			if err != nil {
				return err
			}
			bundle, problems, err := loadLayers(at, args)
			if err != nil {
				return err
			}
			out, err := f.compose(bundle, "", &problems)
			if err != nil {
				return err
			}
			if len(problems.Errors()) > 0 {
				return a.refusedLayers(problems)
			}
			a.report(problems)
			if output == "" {
				a.printBuilt(out, findings(problems))
				return nil
			}
			written, err := into.write(out)
			if err != nil {
				return exit{exitError, err}
			}
			if a.json {
				a.print(struct {
					Findings []finding `json:"findings"`
					Written  []string  `json:"written"`
				}{findings(problems), written})
			}
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "write to this directory or .json file instead of standard output")
	c.Flags().StringVar(&base, "base", "", "where the directory of -o will be when opencode reads it (default the directory itself)")
	f.flags(c)
	return c
}

func (a *app) printBuilt(out config.Output, found []finding) {
	if a.json {
		a.print(struct {
			Findings []finding       `json:"findings"`
			Config   json.RawMessage `json:"config"`
			TUI      json.RawMessage `json:"tui,omitempty"`
		}{found, out.Config, out.TUI})
		return
	}
	_, _ = a.out.Write(out.Config)
	if out.TUI != nil {
		fmt.Fprintf(a.err, "note: what is said about the terminal goes into %s: use -o DIR to write both files\n", schema.TUIFile)
	}
	if len(out.Files) > 0 {
		fmt.Fprintf(a.err, "note: agents, skills and commands stand in files of their own: use -o DIR to write them\n")
	}
}

// outputPlace is where a built configuration goes.
type outputPlace struct{ path string }

// single reports whether only opencode.json is asked for, by the name of a file.
func (d outputPlace) single() bool {
	ext := filepath.Ext(d.path)
	return ext == ".json" || ext == ".jsonc"
}

// base is where opencode will find the directory; "" leaves what layers name
// where it is.
func (d outputPlace) base(given string) (string, error) {
	switch {
	case d.path == "" || d.single():
		if given != "" {
			return "", usage("--base goes with -o DIR")
		}
		return "", nil
	case given != "":
		return strings.TrimSuffix(given, "/"), nil
	}
	return filepath.Abs(d.path)
}

func (d outputPlace) write(out config.Output) ([]string, error) {
	dir := d.path
	files := []tree.File{{Path: schema.ConfigFile, Mode: 0o644, Content: out.Config}}
	if out.TUI != nil {
		files = append(files, tree.File{Path: schema.TUIFile, Mode: 0o644, Content: out.TUI})
	}
	if d.single() {
		dir, files[0].Path = filepath.Split(d.path)
		return tree.Write(filepath.Clean(dir), files)
	}
	return tree.Write(dir, append(files, treeFiles(out.Files)...))
}

func treeFiles(files []config.File) []tree.File {
	var out []tree.File
	for _, f := range files {
		mode := fs.FileMode(0o644)
		if f.Executable {
			mode = 0o755
		}
		out = append(out, tree.File{Path: f.Path, Mode: mode, Content: f.Content})
	}
	return out
}
