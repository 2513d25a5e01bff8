package config

import (
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
)

func (l *linter) servers() {
	l.each("mcp", func(where string, _ document.Entry, t *document.Table) {
		if url := t.Get("url"); url != nil {
			if text, ok := url.Text(); ok && !reference(text) && !strings.HasPrefix(text, "http://") && !strings.HasPrefix(text, "https://") {
				l.warn(url.Pos, "begin it with https://", "%s.url: %q is not the address of a server", where, text)
			}
		}
		l.command(where, t.Get("command"))
	})
}

// command: no shell takes it apart.
func (l *linter) command(where string, v *document.Value) {
	list, ok := v.List()
	if !ok {
		return
	}
	if len(list) == 0 {
		l.warn(v.Pos, "", "%s.command is empty", where)
		return
	}
	program, _ := list[0].Text()
	if len(list) == 1 && strings.ContainsAny(program, " \t") && !strings.HasPrefix(program, "/") {
		l.warn(list[0].Pos, "write each word as an element of its own", "%s.command: %q is taken for the name of one program", where, program)
	}
}

// knownServers are the language servers of opencode 1.18 itself.
var knownServers = []string{
	"deno", "typescript", "vue", "eslint", "oxlint", "biome", "gopls", "ruby-lsp", "ty", "pyright", "elixir-ls", "zls", "csharp",
	"razor", "fsharp", "sourcekit-lsp", "rust", "clangd", "svelte", "astro", "jdtls", "kotlin-ls", "yaml-ls", "lua-ls",
	"php intelephense", "prisma", "dart", "ocaml-lsp", "bash", "terraform", "texlab", "dockerfile", "gleam", "clojure-lsp", "nixd",
	"tinymist", "haskell-language-server", "julials",
}

// languageServers: opencode drops one that it does not know and that says no
// extensions, without a word.
func (l *linter) languageServers() {
	l.each("lsp", func(where string, e document.Entry, t *document.Table) {
		off := t.Get("disabled") != nil && t.Get("disabled").Data == true
		if !slices.Contains(knownServers, e.Key) && t.Get("extensions") == nil && !off {
			hint := where + `.extensions = [".x"]`
			if near := document.Nearest(e.Key, knownServers); near != "" {
				hint = "did you mean \"" + near + "\"? Otherwise write " + hint
			}
			l.warn(e.KeyPos, hint, "%s is not one of opencode's own and names no extensions, so opencode drops it", where)
		}
		l.command(where, t.Get("command"))
		l.extensions(where, t.Get("extensions"))
	})
}

func (l *linter) formatters() {
	l.each("formatter", func(where string, e document.Entry, t *document.Table) {
		l.command(where, t.Get("command"))
		l.extensions(where, t.Get("extensions"))
		if t.Get("command") != nil && t.Get("extensions") == nil && !slices.Contains(knownFormatters, e.Key) {
			l.warn(e.KeyPos, where+`.extensions = [".x"]`, "%s is not one of opencode's own and names no extensions, so it formats nothing", where)
		}
	})
}

// knownFormatters are those of opencode 1.18 itself.
var knownFormatters = []string{
	"gofmt", "mix", "prettier", "oxfmt", "biome", "zig", "clang-format", "ktlint", "ruff", "air", "uv", "rubocop", "standardrb",
	"htmlbeautifier", "dart", "ocamlformat", "terraform", "latexindent", "gleam", "shfmt", "nixfmt", "rustfmt", "pint", "ormolu",
	"cljfmt", "dfmt",
}

func (l *linter) extensions(where string, v *document.Value) {
	list, _ := v.List()
	for _, e := range list {
		if text, ok := e.Text(); ok && !strings.HasPrefix(text, ".") && text != "" && !strings.Contains(text, "Dockerfile") {
			l.warn(e.Pos, "write \"."+strings.TrimPrefix(text, "*.")+"\"", "%s.extensions: %q has no dot in front", where, text)
		}
	}
}
