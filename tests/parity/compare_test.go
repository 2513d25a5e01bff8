package parity

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/document"
)

// allowance is a difference between what is written and what `debug config`
// prints that is opencode's doing and known.
type allowance struct {
	why   string
	path  *regexp.Regexp // of the value, in dots
	holds func(written, printed *document.Value) bool
}

var allowances = []allowance{
	{"values under the names of secrets are masked", regexp.MustCompile(`(?i)key|token|secret|password|authorization|headers|credential`),
		func(_, printed *document.Value) bool { s, _ := printed.Text(); return s == "***" }},
	{"one action for all tools is printed as a rule for every one", regexp.MustCompile(`(^|\.)permission$`),
		func(written, printed *document.Value) bool {
			all := printed.Table().Get("*")
			return all != nil && written.Data == all.Data
		}},
	{"the price above 200,000 tokens is read by nothing in 1.18", regexp.MustCompile(`\.cost\.context_over_200k$`), dropped},
	{"of a custom language server that is disabled nothing else is kept", regexp.MustCompile(`^lsp\.house-ls\.command$`), dropped},
	{"a path of a plugin is printed as an address", regexp.MustCompile(`^plugin$`),
		func(written, printed *document.Value) bool {
			a, _ := written.List()
			b, _ := printed.List()
			return len(a) == len(b)
		}},
}

func dropped(_, printed *document.Value) bool { return printed == nil }

// missing says what of a written configuration is not in what opencode loaded;
// opencode adds keys, which is no difference.
func missing(written, printed *document.Table) string {
	var out []string
	var walk func(w, p *document.Value, path []string)
	walk = func(w, p *document.Value, path []string) {
		if differs := difference(w, p, path); differs == "" {
			return
		} else if w.Table() == nil || p.Table() == nil {
			for _, a := range allowances {
				if a.path.MatchString(strings.Join(path, ".")) && a.holds(w, p) {
					return
				}
			}
			out = append(out, strings.Join(path, ".")+": "+differs)
			return
		}
		for e := range w.Table().All() {
			walk(e.Value, p.Table().Get(e.Key), append(slices.Clone(path), e.Key))
		}
		if slices.Contains(path, "permission") {
			if a, b := order(w.Table(), p.Table()), order(p.Table(), w.Table()); !slices.Equal(a, b) {
				out = append(out, fmt.Sprintf("%s: the rules are in the order %v, written as %v", strings.Join(path, "."), b, a))
			}
		}
	}
	walk(&document.Value{Data: written}, &document.Value{Data: printed}, nil)
	return strings.Join(out, "\n")
}

// order lists the keys of a table that another has too.
func order(t, other *document.Table) []string {
	var out []string
	for e := range t.All() {
		if other.Get(e.Key) != nil {
			out = append(out, e.Key)
		}
	}
	return out
}

func difference(w, p *document.Value, path []string) string {
	if p == nil {
		return "is not loaded, written as " + config.Text(w)
	}
	if w.Table() != nil && p.Table() != nil {
		return "look inside"
	}
	if a, b := plain(w), plain(p); a != b {
		return "is loaded as " + b + ", written as " + a
	}
	return ""
}

// plain is a value as text, references filled in, numbers in one form.
func plain(v *document.Value) string {
	switch d := v.Data.(type) {
	case string:
		return fmt.Sprintf("%q", fill(d))
	case float64:
		if d == math.Trunc(d) {
			return fmt.Sprint(int64(d))
		}
		return fmt.Sprint(d)
	case []*document.Value:
		var out []string
		for _, e := range d {
			out = append(out, plain(e))
		}
		return "[" + strings.Join(out, ",") + "]"
	case *document.Table:
		var out []string
		for e := range d.All() {
			out = append(out, e.Key+":"+plain(e.Value))
		}
		return "{" + strings.Join(out, ",") + "}"
	}
	return fmt.Sprint(v.Data)
}

var reference = regexp.MustCompile(`\{env:([^}]+)\}`)

func fill(s string) string {
	return reference.ReplaceAllStringFunc(s, func(m string) string { return variables[reference.FindStringSubmatch(m)[1]] })
}
