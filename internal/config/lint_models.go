package config

import (
	_ "embed"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
)

// catalogue are the providers that opencode knows by itself (the model catalogue
// of 1.18.33); others must be defined with their models.
//
//go:embed catalogue.txt
var catalogue string

func inCatalogue(provider string) bool {
	return slices.Contains(strings.Fields(catalogue), provider)
}

// models: what names a model must name one that can be had.
func (l *linter) models() {
	l.model("model", l.t.Get("model"))
	l.model("small_model", l.t.Get("small_model"))
	for _, key := range []string{"agent", "command"} {
		l.each(key, func(where string, _ document.Entry, t *document.Table) { l.model(where+".model", t.Get("model")) })
	}
}

func (l *linter) model(where string, v *document.Value) {
	text, ok := v.Text()
	if !ok || reference(text) {
		return
	}
	provider, model, slash := strings.Cut(text, "/")
	if !slash || provider == "" || model == "" {
		l.warn(v.Pos, `write "provider/model"`, "%s: %q names no provider", where, text)
		return
	}
	own := l.t.Lookup("provider", provider).Table()
	switch models := own.Get("models").Table(); {
	case own == nil && !inCatalogue(provider):
		hint := "define it in provider, with its models"
		if near := document.Nearest(provider, strings.Fields(catalogue)); near != "" {
			hint = "did you mean \"" + near + "\"? Otherwise " + hint
		}
		l.warn(v.Pos, hint, "%s: nothing defines the provider %q", where, provider)
	case own != nil && !inCatalogue(provider) && models.Get(model) == nil:
		l.warn(v.Pos, "add it to provider."+document.Join(provider)+".models", "%s: the provider %q has no model %q", where, provider, model)
	}
	if listed(l.t.Get("disabled_providers"), provider) {
		l.warn(v.Pos, "", "%s: the provider %q is disabled", where, provider)
	} else if l.t.Get("enabled_providers") != nil && !listed(l.t.Get("enabled_providers"), provider) {
		l.warn(v.Pos, "add it there", "%s: the provider %q is not among enabled_providers", where, provider)
	}
}

func listed(v *document.Value, s string) bool {
	list, _ := v.List()
	return containsText(list, s)
}

func (l *linter) providers() {
	l.each("provider", func(where string, e document.Entry, t *document.Table) {
		if !inCatalogue(e.Key) && t.Get("models").Table().Len() == 0 {
			l.warn(e.KeyPos, where+`.models = { "NAME" = {} }`, "%s is not one that opencode knows, and defines no models", where)
		}
	})
	for _, key := range []string{"disabled_providers", "enabled_providers"} {
		list, _ := l.t.Get(key).List()
		for _, v := range list {
			text, ok := v.Text()
			if ok && !reference(text) && !inCatalogue(text) && l.t.Lookup("provider", text) == nil {
				hint := ""
				if near := document.Nearest(text, strings.Fields(catalogue)); near != "" {
					hint = "did you mean \"" + near + "\"?"
				}
				l.warn(v.Pos, hint, "%s: nothing defines the provider %q", key, text)
			}
		}
	}
}
