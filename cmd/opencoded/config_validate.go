package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/tree"
)

// subject is one configuration to be checked: layers that belong together.
type subject struct {
	name    string
	files   []string // those that may be repaired
	sources []config.Source
}

func (a *app) configValidate() *cobra.Command {
	var f composition
	var fix bool
	c := &cobra.Command{
		Use: "validate (LAYER… | DIR…)", Short: "check configurations, also those that people have already",
		Long: `Check layers as build does, without writing anything. Of a directory every
opencode.json, tui.json and .opencode below it is checked, each by itself, with the
agents, commands and skills beside it.

An unknown key is an error: opencode drops it without a word. What opencode accepts
but surely was not meant is a warning, with --strict an error. --fix repairs in
place, in JSON files and in heads of markdown files, what can be meant in one way only;
comments stay.`,
		Example: "  opencoded config validate team.toml mcp.jsonc\n  opencoded config validate --fix ~/.config/opencode\n  opencoded config validate ~/src",
		Args:    atLeast(1),
		RunE: func(c *cobra.Command, args []string) error {
			subjects, err := findSubjects(args)
			if err != nil {
				return err
			}
			var problems document.Diagnostics
			repaired := map[string]int{}
			for _, s := range subjects {
				found, fixes, err := f.check(s)
				if err == nil && fix {
					if err = repair(s, fixes, repaired); err == nil {
						found, _, err = f.check(s)
					}
				}
				if err != nil {
					return err
				}
				problems.AddAll(found)
			}
			problems.Sort()
			a.report(problems)
			return a.checked(subjects, problems, repaired)
		},
	}
	c.Flags().BoolVar(&fix, "fix", false, "repair what can be meant in one way only")
	f.flags(c)
	return c
}

func (f *composition) check(s subject) (document.Diagnostics, []config.Fix, error) {
	bundle, problems := config.Load(host.Reader{}, "", s.sources...)
	out, err := f.compose(bundle, "", &problems)
	return problems, out.Fixes, err
}

// checked ends the command with a summary.
func (a *app) checked(subjects []subject, problems document.Diagnostics, repaired map[string]int) error {
	failed := len(problems.Errors())
	if a.json {
		a.print(struct {
			Valid    bool           `json:"valid"`
			Checked  int            `json:"checked"`
			Repaired map[string]int `json:"repaired,omitempty"`
			Findings []finding      `json:"findings"`
		}{failed == 0, len(subjects), repaired, findings(problems)})
		if failed > 0 {
			return exit{exitError, nil}
		}
		return nil
	}
	for _, file := range slices.Sorted(maps.Keys(repaired)) {
		fmt.Fprintf(a.out, "%s: %s\n", file, count(repaired[file], "repair", "repairs"))
	}
	what := count(len(subjects), "configuration", "configurations")
	if len(subjects) == 1 {
		what = subjects[0].name
	}
	if failed > 0 {
		return exit{exitError, fmt.Errorf("%s: %s, %s", what, count(failed, "error", "errors"), count(len(problems.Warnings()), "remark", "remarks"))}
	}
	note := "valid"
	if n := len(problems.Warnings()); n > 0 {
		note += ", with " + count(n, "remark", "remarks")
	}
	fmt.Fprintf(a.out, "%s: %s\n", what, note)
	return nil
}

// repair applies the repairs of a subject to its JSON files, and to the heads of its
// markdown files. An edit that does
// not fit, because another came before it, is left to the next run.
func repair(s subject, fixes []config.Fix, repaired map[string]int) error {
	for _, f := range fixes {
		if f.Whole == nil {
			continue
		}
		if err := tree.Replace(f.Pos.File, f.Whole); err != nil {
			return fmt.Errorf("cannot write %s: %w", f.Pos.File, err)
		}
		repaired[f.Pos.File] = 1
	}
	for _, file := range s.files {
		if filepath.Ext(file) == ".toml" {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		n := 0
		for _, f := range fixes {
			if f.Pos.File != file || f.Whole != nil {
				continue
			}
			if edited, err := document.EditJSON(data, []document.Edit{f.Edit}); err == nil {
				data = edited
				n++
			}
		}
		if n == 0 {
			continue
		}
		if _, problems := document.ParseJSON(file, data); len(problems) > 0 {
			return fmt.Errorf("internal error: a repair would break %s", file)
		}
		if err := tree.Replace(file, data); err != nil {
			return fmt.Errorf("cannot write %s: %w", file, err)
		}
		repaired[file] = n
	}
	return nil
}

// findSubjects turns what a user names into configurations: files are layers of
// one, each directory is searched.
func findSubjects(args []string) ([]subject, error) {
	var files []string
	var out []subject
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err == nil && info.IsDir() {
			found, err := search(arg)
			if err != nil {
				return nil, err
			}
			if len(found) == 0 {
				return nil, exit{exitError, fmt.Errorf("there is no opencode.json, tui.json or .opencode in %s (name a file to check one of another name)", arg)}
			}
			out = append(out, found...)
			continue
		}
		files = append(files, arg)
	}
	if len(files) > 0 {
		sources, err := layerSources(files)
		if err != nil {
			return nil, err
		}
		out = append([]subject{{name: strings.Join(files, ", "), files: files, sources: sources}}, out...)
	}
	return out, nil
}

// search finds the configurations below a directory.
func search(root string) ([]subject, error) {
	var out []subject
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		switch {
		case errors.Is(err, os.ErrPermission):
			return filepath.SkipDir
		case err != nil:
			return err
		case !e.IsDir():
			return nil
		case e.Name() == "node_modules" || e.Name() == ".git":
			return filepath.SkipDir
		case e.Name() == ".opencode" && path != root:
			return filepath.SkipDir // belongs to the directory that holds it
		}
		s, err := subjectOf(path)
		if len(s.sources) > 0 {
			out = append(out, s)
		}
		return err
	})
	return out, err
}

// subjectOf is the configuration of one directory, as opencode would put it
// together: its files, then those of .opencode in it.
func subjectOf(dir string) (subject, error) {
	s := subject{name: dir}
	for _, d := range []string{dir, filepath.Join(dir, ".opencode")} {
		names := []string{"opencode.json", "opencode.jsonc", "tui.json", "tui.jsonc"}
		base := filepath.Base(d)
		own := base == "opencode" || base == ".opencode"
		if own {
			names = append([]string{"config.json"}, names...)
		}
		for _, name := range names {
			path := filepath.Join(d, name)
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				s.files = append(s.files, path)
				own = true
			}
		}
		if !own {
			continue
		}
		named, err := namedFiles(d)
		if err != nil {
			return s, err
		}
		if named.Len() > 0 {
			s.sources = append(s.sources, config.Source{Table: named, Dir: d, Name: d})
		}
	}
	sources, err := layerSources(s.files)
	s.sources = append(s.sources, sources...)
	return s, err
}

// namedFiles finds the agents, commands and skills of a directory, under the
// names that opencode gives them.
func namedFiles(dir string) (*document.Table, error) {
	out := &document.Table{}
	for _, k := range []struct{ key, one string }{{"agents", "agent"}, {"commands", "command"}, {"skills", "skill"}} {
		group := &document.Table{}
		for _, folder := range []string{k.one, k.key} {
			root := filepath.Join(dir, folder)
			if info, err := os.Stat(root); err != nil || !info.IsDir() {
				continue
			}
			files, err := host.Reader{}.List(root)
			if err != nil {
				return nil, err
			}
			for _, file := range files {
				name, ok := strings.CutSuffix(filepath.ToSlash(file), ".md")
				if k.one == "skill" {
					if filepath.Base(file) != "SKILL.md" || filepath.Dir(file) == "." {
						continue
					}
					name, ok = filepath.Base(filepath.Dir(file)), true
				}
				if ok {
					pos := document.Pos{File: filepath.Join(root, file)}
					group.Set(document.Entry{Key: name, KeyPos: pos, Value: &document.Value{Pos: pos, Data: filepath.Join(folder, file)}})
				}
			}
		}
		if group.Len() > 0 {
			out.Set(document.Entry{Key: k.key, Value: &document.Value{Data: group}})
		}
	}
	return out, nil
}
