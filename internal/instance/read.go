package instance

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
)

// key is one row of the table of keys: its name as written in the file, what it
// means, its default as the documentation shows it, and how it is read.
type key[T any] struct {
	name string
	def  string
	doc  string
	read func(*reader, *T, *document.Value)
}

// reader is at one value: it knows the file's findings and how to name the key.
type reader struct {
	p     *parser
	where string // "instances.web", or "defaults" for an inherited value
	key   string
	keys  *positions
}

func (r *reader) fail(pos document.Pos, hint, format string, args ...any) {
	r.keys.refuse(r.key)
	r.p.problems.Add(document.Error, pos, hint, "%s.%s: %s", r.owner(pos), r.key, fmt.Sprintf(format, args...))
}

func (r *reader) warn(pos document.Pos, hint, format string, args ...any) {
	r.p.problems.Add(document.Warning, pos, hint, "%s.%s: %s", r.owner(pos), r.key, fmt.Sprintf(format, args...))
}

// owner names the table in which a value stands: a mistake in [defaults] is
// reported there, once, and not at each instance that inherits it.
func (r *reader) owner(pos document.Pos) string {
	if r.p.hasDefaults[pos] {
		return "defaults"
	}
	return r.where
}

// read assigns every key of a table to its field; what no row names is an error.
func read[T any](p *parser, where string, keys []key[T], into *T, t *document.Table) {
	readTable(p, where, "", keys, into, t)
}

func readTable[T any](p *parser, where, prefix string, keys []key[T], into *T, t *document.Table) {
	at := any(into).(interface{ where() *positions }).where()
	for e := range t.All() {
		name := prefix + e.Key
		r := &reader{p: p, where: where, key: name, keys: at}
		if k, ok := find(keys, name); ok {
			r.keys.set(name, e.Value.Pos)
			k.read(r, into, e.Value)
			continue
		}
		below := children(keys, name+".")
		switch {
		case len(below) == 0:
			p.unknown(e, strings.TrimSuffix(r.owner(e.KeyPos)+"."+prefix, "."), children(keys, prefix))
		case e.Value.Table() == nil:
			r.fail(e.Value.Pos, fmt.Sprintf("write %s = { %s = … }", e.Key, below[0]), "expected a table, not %s", article(e.Value.Kind()))
		default:
			r.keys.set(name, e.Value.Pos)
			readTable(p, where, name+".", keys, into, e.Value.Table())
		}
	}
}

func find[T any](keys []key[T], name string) (key[T], bool) {
	i := slices.IndexFunc(keys, func(k key[T]) bool { return k.name == name })
	if i < 0 {
		return key[T]{}, false
	}
	return keys[i], true
}

// children lists the keys directly below a prefix.
func children[T any](keys []key[T], prefix string) []string {
	var out []string
	for _, k := range keys {
		if rest, ok := strings.CutPrefix(k.name, prefix); ok {
			first, _, _ := strings.Cut(rest, ".")
			if !slices.Contains(out, first) {
				out = append(out, first)
			}
		}
	}
	return out
}

// refusal is why a value is not accepted, with what to write instead.
type refusal struct{ problem, hint string }

func (r refusal) Error() string { return r.problem }

func refuse(hint, format string, args ...any) error {
	return refusal{problem: fmt.Sprintf(format, args...), hint: hint}
}

// convert reads a value as a T or returns a refusal.
type convert[T any] func(*document.Value) (T, error)

func take[T any](r *reader, v *document.Value, c convert[T]) (T, bool) {
	out, err := c(v)
	if err != nil {
		var why refusal
		errors.As(err, &why)
		r.fail(v.Pos, why.hint, "%s", err)
	}
	return out, err == nil
}

// one reads a single value into a field.
func one[S, T any](field func(*S) *T, c convert[T]) func(*reader, *S, *document.Value) {
	return func(r *reader, s *S, v *document.Value) {
		if out, ok := take(r, v, c); ok {
			*field(s) = out
		}
	}
}

// many reads a list into a field, replacing what the defaults had.
func many[S, T any](field func(*S) *[]T, c convert[T]) func(*reader, *S, *document.Value) {
	return func(r *reader, s *S, v *document.Value) {
		list, ok := v.List()
		if !ok {
			r.fail(v.Pos, "write it in square brackets", "expected a list, not %s", article(v.Kind()))
			return
		}
		*field(s) = elements(r, list, c)
	}
}

// oneOrMany reads a list, or a single value as a list of one.
func oneOrMany[S, T any](field func(*S) *[]T, c convert[T]) func(*reader, *S, *document.Value) {
	return func(r *reader, s *S, v *document.Value) {
		list, ok := v.List()
		if !ok {
			list = []*document.Value{v}
		}
		*field(s) = elements(r, list, c)
	}
}

func elements[T any](r *reader, list []*document.Value, c convert[T]) []T {
	var out []T
	for _, e := range list {
		if x, ok := take(r, e, c); ok {
			r.keys.set(element(r.key, len(out)), e.Pos)
			out = append(out, x)
		}
	}
	return out
}

func article(noun string) string {
	if strings.ContainsRune("aeiou", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}
