package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/instance"
)

// finding is a diagnostic in JSON.
type finding struct {
	Severity string `json:"severity"`
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
}

func findings(problems document.Diagnostics) []finding {
	out := []finding{}
	for _, p := range problems {
		out = append(out, finding{p.Severity.String(), p.Pos.File, p.Pos.Line, p.Pos.Column, p.Message, p.Hint})
	}
	return out
}

// report prints findings for people; JSON output carries them itself.
func (a *app) report(problems document.Diagnostics) {
	if a.json {
		return
	}
	for _, p := range problems {
		fmt.Fprintln(a.err, p)
	}
}

// refused ends a command after findings with errors were printed.
func (a *app) refused(problems document.Diagnostics) error {
	if a.json {
		a.print(struct {
			Findings []finding `json:"findings"`
		}{findings(problems)})
		return exit{exitError, nil}
	}
	n := len(problems.Errors())
	return exit{exitError, fmt.Errorf("%s; nothing was changed", count(n, "error", "errors"))}
}

// load reads and validates an inventory.
func (a *app) load(path string) (*instance.Inventory, document.Diagnostics, error) {
	inv, problems, err := host.ReadInventory(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w (name another, or begin with examples/two-instances.toml)", err)
	}
	if err != nil {
		return nil, nil, exit{exitError, err}
	}
	return inv, problems, nil
}

// survey loads an inventory and holds it against the host.
func (a *app) survey(ctx context.Context, h *host.Host, path string) (*host.Survey, document.Diagnostics, error) {
	inv, problems, err := a.load(path)
	if err != nil {
		return nil, nil, err
	}
	if inv == nil {
		a.report(problems)
		return nil, problems, a.refused(problems)
	}
	s, more, err := h.Survey(ctx, inv)
	problems = append(problems, more...)
	problems.Sort()
	if a.quiet && err == nil {
		a.report(problems.Errors())
	} else {
		a.report(problems)
	}
	if err != nil {
		return nil, problems, exit{exitError, err}
	}
	if s == nil {
		return nil, problems, a.refused(problems)
	}
	return s, problems, nil
}

// print writes one JSON document.
func (a *app) print(v any) {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // to standard output: a failure has nobody to be told
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
