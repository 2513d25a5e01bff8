package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/schema"
)

func (a *app) configOptions() *cobra.Command {
	var markdown bool
	c := &cobra.Command{
		Use: "options [SECTION | KEY]", Short: "explain the options of opencode.json and tui.json",
		Long: `Explain what can stand in opencode.json and tui.json: meaning, type, default and an
example. Without an argument the sections are listed.`,
		Example: "  opencoded config options permission\n  opencoded config options agent.build.temperature",
		Args:    atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			options, err := schema.Reference()
			if err != nil {
				return exit{exitError, err}
			}
			if markdown {
				writeMarkdown(a.out, options)
				return nil
			}
			shown, err := selected(options, args)
			if err != nil {
				return err
			}
			if a.json {
				a.print(optionsJSON(shown))
				return nil
			}
			p := a.printer()
			for i, o := range shown {
				if len(args) == 0 {
					first, _, _ := strings.Cut(o.Meaning, ". ")
					fmt.Fprintf(a.out, "%-20s %s\n", o.Key, strings.TrimSuffix(first, "."))
					continue
				}
				if i > 0 {
					fmt.Fprintln(a.out)
				}
				p.option(o)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&markdown, "markdown", false, "print the whole reference as markdown")
	return c
}

// selected is what a user asks for: a key with all below it, or the sections.
func selected(options []schema.Option, args []string) ([]schema.Option, error) {
	var out []schema.Option
	if len(args) == 0 {
		for _, o := range options {
			if !strings.Contains(o.Key, ".") && o.Key != "$schema" {
				out = append(out, o)
			}
		}
		return out, nil
	}
	key, err := document.SplitKey(args[0])
	if err != nil {
		key = strings.Split(args[0], ".")
	}
	for _, o := range options {
		if o.Key == args[0] || o.Matches(key) || o.Below(key) {
			out = append(out, o)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	var keys []string
	for _, o := range options {
		keys = append(keys, o.Key)
	}
	hint := "opencoded config options lists the sections"
	if near := document.Nearest(args[0], keys); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return nil, exit{exitError, fmt.Errorf("there is no option %q (%s)", args[0], hint)}
}

type optionJSON struct {
	File       string   `json:"file"`
	Key        string   `json:"key"`
	Types      []string `json:"types"`
	Required   bool     `json:"required"`
	Default    string   `json:"default"`
	Meaning    string   `json:"meaning"`
	Example    string   `json:"example"`
	Deprecated string   `json:"deprecated,omitempty"`
	Secret     bool     `json:"secret,omitempty"`
	Set        bool     `json:"set,omitempty"`
}

func optionsJSON(options []schema.Option) []optionJSON {
	out := []optionJSON{}
	for _, o := range options {
		out = append(out, optionJSON{o.File, o.Key, o.Types, o.Required, o.Absent, o.Meaning, o.Example, o.Deprecated, o.Secret, o.Set})
	}
	return out
}

// remarks are what is to be known of an option besides its meaning.
func remarks(o schema.Option) []string {
	var out []string
	if o.Deprecated != "" {
		out = append(out, "Out of date: use "+o.Deprecated+".")
	}
	if o.Secret {
		out = append(out, "A secret: write {env:NAME} or {file:/path} instead of the value.")
	}
	if o.Set {
		out = append(out, "A set: the lists of several layers unite.")
	}
	return out
}

func typeText(o schema.Option) string {
	text := strings.Join(o.Types, ", ")
	if text == "" {
		text = "anything"
	}
	if o.Required {
		text += "; required"
	}
	return text
}

func (p printer) option(o schema.Option) {
	fmt.Fprintf(p.w, "%s  (%s)\n", p.paint(bold, o.Key), o.File)
	fmt.Fprintf(p.w, "    %s\n", strings.ReplaceAll(o.Meaning, "\n", "\n    "))
	for _, r := range remarks(o) {
		fmt.Fprintf(p.w, "    %s\n", r)
	}
	fmt.Fprintf(p.w, "    type:     %s\n", typeText(o))
	fmt.Fprintf(p.w, "    default:  %s\n", o.Absent)
	if o.Example != "" {
		fmt.Fprintf(p.w, "    example:  %s\n", strings.ReplaceAll(o.Example, "\n", "\n              "))
	}
}

const markdownHead = `# Options of opencode.json and tui.json

What can stand in the configuration of opencode %s, with opencoded's layers in mind. Written by
` + "`opencoded config options --markdown`" + `; ` + "`opencoded config options KEY`" + ` shows a part of it in the terminal.
` + "`*`" + ` stands for a name of your choice, ` + "`[]`" + ` for an element of a list. Examples are TOML, as in a layer.
`

// writeMarkdown writes docs/options.md.
func writeMarkdown(w io.Writer, options []schema.Option) {
	fmt.Fprintf(w, markdownHead, schema.BuiltinVersion)
	file, section := "", ""
	for _, o := range options {
		if o.File != file {
			file, section = o.File, ""
			fmt.Fprintf(w, "\n## %s\n", file)
		}
		top, _, below := strings.Cut(o.Key, ".")
		if top != section {
			section = top
			fmt.Fprintf(w, "\n### %s\n\n", top)
			if top == "keybinds" {
				writeMarkdownOption(w, o)
				fmt.Fprintf(w, "\n| key | default | what it does |\n|---|---|---|\n")
				continue
			}
		}
		if section == "keybinds" && below {
			fmt.Fprintf(w, "| `%s` | %s | %s |\n", o.Key, cell(o.Absent), o.Meaning)
			continue
		}
		writeMarkdownOption(w, o)
	}
}

// cell makes a value stand in a table.
func cell(s string) string {
	return "`" + strings.ReplaceAll(s, "|", "\\|") + "`"
}

func writeMarkdownOption(w io.Writer, o schema.Option) {
	fmt.Fprintf(w, "**`%s`** · %s · default: %s\n\n%s\n", o.Key, typeText(o), o.Absent, o.Meaning)
	for _, r := range remarks(o) {
		fmt.Fprintf(w, "%s\n", r)
	}
	if o.Example != "" {
		fmt.Fprintf(w, "\n```toml\n%s\n```\n", o.Example)
	}
	fmt.Fprintln(w)
}
