package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/schema"
	"github.com/opencoded/opencoded/internal/tree"
	"github.com/opencoded/opencoded/internal/wrap"
)

func (a *app) wrap() *cobra.Command {
	var f composition
	in := wrap.Input{}
	var out, archive string
	c := &cobra.Command{
		Use: "wrap --name NAME LAYER…", Short: "bake a configuration into a program of its own",
		Long: `Make a directory with an executable bin/NAME that runs opencode with the layers'
configuration, terminal settings, agents and skills. The directory can stand
anywhere, and is the same, bit by bit, for the same layers. The user's own
configuration of opencode is neither read nor written.

What is baked in holds against everything that a project brings; with
--project-config a project may add to it and override it.`,
		Example: "  opencoded wrap --name chief team.toml mcp.jsonc && chief/bin/chief\n" +
			"  opencoded wrap --name chief --embed --archive chief.tar.zst team.toml",
		Args: atLeast(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := wrap.CheckName(in.Name); err != nil {
				return usage("%v", err)
			}
			if out == "" && archive == "" {
				out = in.Name
			}
			if err := findProgram(&in); err != nil {
				return exit{exitError, err}
			}
			output, problems, err := a.wrapped(f, in.ProjectConfig, args)
			if err != nil {
				return err
			}
			in.Output = output
			if err := deliver(wrap.Tree(in), in.Name, out, archive); err != nil {
				return exit{exitError, err}
			}
			a.delivered(in.Name, out, archive, problems)
			return nil
		},
	}
	c.Flags().StringVar(&in.Name, "name", "", "name of the program (required)")
	c.Flags().StringVar(&in.Opencode, "opencode", "", "the opencode that it runs (default the one in PATH when it runs)")
	c.Flags().BoolVar(&in.Embed, "embed", false, "put the opencode binary in as well")
	c.Flags().BoolVar(&in.ProjectConfig, "project-config", false, "a project may add to the configuration and override it")
	c.Flags().StringVar(&out, "out", "", "the directory to make (default NAME, unless there is an --archive)")
	c.Flags().StringVar(&archive, "archive", "", "also pack it into this .tar.zst")
	f.flags(c)
	return c
}

// wrapped composes the configuration for where the program will find it.
func (a *app) wrapped(f composition, projectConfig bool, layers []string) (config.Output, document.Diagnostics, error) {
	bundle, problems, err := loadLayers(wrap.Base, layers)
	if err != nil {
		return config.Output{}, nil, err
	}
	project := wrap.Project
	if projectConfig {
		project = ""
	}
	out, err := f.compose(bundle, project, &problems)
	if err != nil {
		return out, nil, err
	}
	if len(problems.Errors()) > 0 {
		return out, problems, a.refusedLayers(problems)
	}
	a.report(problems)
	return out, problems, nil
}

// findProgram makes the path of opencode absolute, and finds one to embed.
func findProgram(in *wrap.Input) error {
	if in.Opencode == "" && !in.Embed {
		return nil
	}
	path := in.Opencode
	if path == "" {
		found, err := exec.LookPath("opencode")
		if err != nil {
			return errors.New("there is no opencode in PATH to embed (name one with --opencode PATH)")
		}
		path = found
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if !in.Embed {
		in.Opencode = absolute
		return nil
	}
	resolved, err := filepath.EvalSymlinks(absolute)
	if err != nil {
		return fmt.Errorf("cannot embed opencode: %w", err)
	}
	in.Opencode = resolved
	return isBinary(resolved)
}

// isBinary refuses the small script that a package manager may put in front of
// the program: it would not find what it starts.
func isBinary(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot embed opencode: %w", err)
	}
	defer f.Close()
	head := make([]byte, 4)
	if _, err := io.ReadFull(f, head); err != nil || string(head) != "\x7fELF" {
		return fmt.Errorf("cannot embed %s: it is not a program itself but a script that starts one (name the binary, of the package opencode-linux-…)", path)
	}
	return nil
}

// deliver writes the directory, the archive or both.
func deliver(files []tree.File, name, out, archive string) error {
	if out != "" {
		if err := replaceDir(out, files); err != nil {
			return err
		}
	}
	if archive == "" {
		return nil
	}
	dir, base := filepath.Split(archive)
	temporary, err := os.CreateTemp(filepath.Clean(dir), "."+base+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // gone already when all went well
	err = errors.Join(tree.Archive(temporary, name, files), temporary.Chmod(0o644), temporary.Close())
	if err != nil {
		return err
	}
	return os.Rename(temporary.Name(), archive)
}

// replaceDir makes the directory, whole, in the place of one that was made so
// before. Another one is left alone.
func replaceDir(out string, files []tree.File) error {
	entries, err := os.ReadDir(out)
	if err == nil && len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(out, wrap.Marker)); err != nil {
			return fmt.Errorf("%s exists and was not made by opencoded wrap (name another with --out)", out)
		}
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	parent, base := filepath.Split(filepath.Clean(out))
	if err := os.MkdirAll(filepath.Clean(parent), 0o755); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(filepath.Clean(parent), "."+base+"-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary) // gone already when all went well
	if _, err := tree.Write(temporary, files); err != nil {
		return err
	}
	if err := os.Chmod(temporary, 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	return os.Rename(temporary, out)
}

func (a *app) delivered(name, out, archive string, problems document.Diagnostics) {
	if a.json {
		a.print(struct {
			Findings []finding `json:"findings"`
			Program  string    `json:"program,omitempty"`
			Archive  string    `json:"archive,omitempty"`
		}{findings(problems), program(out, name), archive})
		return
	}
	var made []string
	if out != "" {
		made = append(made, program(out, name))
	}
	if archive != "" {
		made = append(made, archive)
	}
	fmt.Fprintf(a.out, "made %s for opencode %s\n", strings.Join(made, " and "), schema.BuiltinVersion)
}

func program(out, name string) string {
	if out == "" {
		return ""
	}
	return filepath.Join(out, "bin", name)
}
