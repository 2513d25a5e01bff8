package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/schema"
)

func (a *app) configSchema() *cobra.Command {
	var tui bool
	var binary, version string
	c := &cobra.Command{
		Use: "schema", Short: "print the JSON Schema of opencode.json, for editors",
		Long: `Print the JSON Schema of opencode.json, or with --tui of tui.json, with what each
option means. With --opencode PATH the schema is read out of that program, which is
started once for it, on a port of loopback, behind a password, in a throwaway
directory.`,
		Example: "  opencoded config schema > opencode.schema.json\n  opencoded config schema --opencode /usr/local/bin/opencode",
		Args:    exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			set, _, err := host.Schemas(version)
			if err != nil {
				return exit{exitError, err}
			}
			s := set.Config
			switch {
			case tui && binary != "":
				return usage("--tui and --opencode exclude each other: a server does not tell the schema of tui.json")
			case tui:
				s = set.TUI
			case binary != "":
				_, text, err := host.ImportSchema(c.Context(), binary)
				if err != nil {
					return exit{exitError, err}
				}
				s = schema.New(schema.ConfigFile, text)
			}
			text, err := s.Annotated()
			if err != nil {
				return exit{exitError, err}
			}
			_, _ = a.out.Write(text)
			return nil
		},
	}
	c.Flags().BoolVar(&tui, "tui", false, "the schema of tui.json")
	c.Flags().StringVar(&binary, "opencode", "", "read it out of this program")
	c.Flags().StringVar(&version, "for", "", "of this `VERSION` of opencode, if it was imported (default "+schema.BuiltinVersion+")")
	c.AddCommand(a.schemaImport(), a.schemaList())
	return c
}

func (a *app) schemaImport() *cobra.Command {
	var binary, output string
	c := &cobra.Command{
		Use: "import --opencode PATH", Short: "learn what another version of opencode accepts",
		Long: `Start an installed opencode once, on a port of loopback, behind a password, in a
throwaway directory, as nobody when root asks, and keep the schema of its
configuration under ` + host.SchemaDir + `. Instances that run that version are checked
against it from then on.`,
		Example: "  sudo opencoded config schema import --opencode /usr/local/bin/opencode",
		Args:    exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if binary == "" {
				return usage("say which with --opencode PATH")
			}
			if output == "" && os.Geteuid() != 0 {
				return exit{exitError, errors.New("only root can write below " + host.SchemaDir + " (use sudo, or -o FILE)")}
			}
			version, text, err := host.ImportSchema(c.Context(), binary)
			if err != nil {
				return exit{exitError, err}
			}
			path := output
			if path == "" {
				path, err = host.SaveSchema(version, text)
			} else {
				err = os.WriteFile(path, text, 0o644)
			}
			if err != nil {
				return exit{exitError, err}
			}
			if a.json {
				a.print(struct {
					Version string `json:"version"`
					File    string `json:"file"`
				}{version, path})
				return nil
			}
			fmt.Fprintf(a.out, "opencode %s: %s\n", version, path)
			return nil
		},
	}
	c.Flags().StringVar(&binary, "opencode", "", "the program to ask")
	c.Flags().StringVarP(&output, "output", "o", "", "write it to this file instead")
	return c
}

func (a *app) schemaList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the versions of opencode whose schemas are known here", Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			versions := host.SchemaVersions()
			if a.json {
				a.print(versions)
				return nil
			}
			for _, v := range versions {
				note := ""
				if v == schema.BuiltinVersion {
					note = "  (part of opencoded)"
				}
				fmt.Fprintf(a.out, "%s%s\n", v, note)
			}
			return nil
		},
	}
}
