package schema

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/lazy"
)

func wrongType(v *document.Value, path, types []string) Violation {
	words := make([]string, len(types))
	for i, t := range types {
		words[i] = typeWords[t]
	}
	out := Violation{Path: path, Pos: v.Pos, Fault: WrongType, forms: types,
		Message: fmt.Sprintf("%s: expected %s, not %s", document.Join(path...), strings.Join(words, " or "), kindWords(v))}
	text, isText := v.Data.(string)
	switch {
	case isText && len(types) == 1 && types[0] == "array":
		out.Hint = fmt.Sprintf("write [%q]", text)
	case isText && reference.MatchString(text):
		out.Hint = "opencode fills in references inside of strings only"
	case isText && slices.ContainsFunc(types, func(t string) bool { return t == "integer" || t == "number" || t == "boolean" }):
		out.Hint = "write it without quotes"
	}
	return out
}

var typeWords = map[string]string{
	"string": "a string", "number": "a number", "integer": "a whole number", "boolean": "true or false",
	"object": "a table of keys", "array": "a list", "null": "null",
}

func kindWords(v *document.Value) string {
	switch v.Data.(type) {
	case string:
		return "a string"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case *document.Table:
		return "a table of keys"
	case []*document.Value:
		return "a list"
	case document.Null:
		return "null"
	}
	return "a " + v.Kind()
}

func fits(typ string, v *document.Value) bool {
	switch d := v.Data.(type) {
	case string:
		return typ == "string"
	case bool:
		return typ == "boolean"
	case int64:
		return typ == "integer" || typ == "number"
	case float64:
		return typ == "number" || typ == "integer" && d == math.Trunc(d)
	case *document.Table:
		return typ == "object"
	case []*document.Value:
		return typ == "array"
	case document.Null:
		return typ == "null"
	}
	return false
}

// reference is what opencode fills in when it reads the file.
var reference = lazy.MustCompile(`\{(env|file):[^}]*\}`)

func notOneOf(v *document.Value, path, allowed []string) Violation {
	text, _ := scalarText(v)
	out := Violation{Path: path, Pos: v.Pos, Fault: NotOneOf, found: text, literals: allowed}
	if s, ok := v.Data.(string); ok {
		out.pending = reference.MatchString(s)
	}
	out.describe()
	return out
}

// describe words the message from what stands there and what is allowed.
func (v *Violation) describe() {
	v.Instead, v.Hint = "", ""
	if s, err := strconv.Unquote(v.found); err == nil {
		v.Instead = document.Unmistakable(s, unquoted(v.literals))
		if near := document.Nearest(s, unquoted(v.literals)); near != "" {
			v.Hint = fmt.Sprintf("did you mean %q?", near)
		}
	}
	fitting := slices.Clone(v.literals)
	for _, f := range v.forms {
		switch words, isType := typeWords[f]; {
		case isType:
			fitting = append(fitting, words)
		default:
			fitting = append(fitting, "of the form "+f)
		}
	}
	noun := "one of "
	if len(fitting) == 1 {
		noun = ""
	}
	v.Message = fmt.Sprintf("%s: %s is not %s%s", document.Join(v.Path...), v.found, noun, strings.Join(fitting, ", "))
}

func unquoted(list []string) []string {
	var out []string
	for _, s := range list {
		if u, err := strconv.Unquote(s); err == nil {
			out = append(out, u)
		}
	}
	return out
}

// values are those that a schema lists, as they are written in JSON; nil when it
// lists none.
func values(s *jsonschema.Schema) []string {
	list := s.Enum
	if s.Const != nil {
		list = []any{*s.Const}
	}
	var out []string
	for _, a := range list {
		if t, ok := a.(string); ok {
			out = append(out, strconv.Quote(t))
		} else {
			out = append(out, fmt.Sprint(a))
		}
	}
	return out
}

func scalarText(v *document.Value) (string, bool) {
	switch d := v.Data.(type) {
	case string:
		return strconv.Quote(d), true
	case bool, int64, float64:
		return fmt.Sprint(d), true
	}
	return kindWords(v), false
}

func limits(s *jsonschema.Schema, v *document.Value, path []string) []Violation {
	fail := func(format string, args ...any) []Violation {
		return []Violation{{Path: path, Pos: v.Pos, Fault: OutOfRange,
			Message: document.Join(path...) + ": " + fmt.Sprintf(format, args...)}}
	}
	n, numeric := number(v)
	switch {
	case numeric && s.Minimum != nil && n < *s.Minimum:
		return fail("%v is too small: at least %v", n, *s.Minimum)
	case numeric && s.ExclusiveMinimum != nil && n <= *s.ExclusiveMinimum:
		return fail("%v is too small: more than %v", n, *s.ExclusiveMinimum)
	case numeric && s.Maximum != nil && n > *s.Maximum:
		return fail("%v is too large: at most %v", n, *s.Maximum)
	}
	if list, ok := v.List(); ok {
		switch {
		case s.MinItems != nil && len(list) < *s.MinItems:
			return fail("%d elements are too few: at least %d", len(list), *s.MinItems)
		case s.MaxItems != nil && len(list) > *s.MaxItems:
			return fail("%d elements are too many: at most %d", len(list), *s.MaxItems)
		}
	}
	if text, ok := v.Data.(string); ok && s.Pattern != "" {
		if rule, err := regexp.Compile(s.Pattern); err == nil && !rule.MatchString(text) {
			out := fail("%q does not have the form %s", text, s.Pattern)
			out[0].forms, out[0].pending = []string{s.Pattern}, reference.MatchString(text)
			return out
		}
	}
	return nil
}

func number(v *document.Value) (float64, bool) {
	switch d := v.Data.(type) {
	case int64:
		return float64(d), true
	case float64:
		return d, true
	}
	return 0, false
}
