package sandbox

import (
	"fmt"
	"strings"
	"testing"
)

// A second reading of systemd.syntax(7), independent of writer.go, so that a test
// can ask what systemd would take a directive to mean. It is stricter than
// systemd: what systemd would expand, or accept with a warning, is an error here.

// directive is one line of a unit file as it stands.
type directive struct{ section, key, raw string }

// readUnit splits a unit file into directives. A line that systemd would join
// with the next is refused: the writer never means that.
func readUnit(text string) ([]directive, error) {
	var out []directive
	section := ""
	for n, line := range strings.Split(text, "\n") {
		line = strings.Trim(line, " \t\r")
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
			continue
		case strings.HasSuffix(line, `\`):
			return nil, fmt.Errorf("line %d is continued: %q", n+1, line)
		case line[0] == '[':
			if !strings.HasSuffix(line, "]") {
				return nil, fmt.Errorf("line %d is no section: %q", n+1, line)
			}
			section = line[1 : len(line)-1]
			continue
		}
		key, raw, ok := strings.Cut(line, "=")
		if !ok || section == "" {
			return nil, fmt.Errorf("line %d is no directive: %q", n+1, line)
		}
		out = append(out, directive{section, strings.TrimRight(key, " \t"), strings.TrimLeft(raw, " \t")})
	}
	return out, nil
}

// specifiers reads %% and refuses what systemd would expand.
func specifiers(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' {
			if i++; i == len(s) || s[i] != '%' {
				return "", fmt.Errorf("a specifier in %q", s)
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), nil
}

// escapes says what \ means within a word. Without C escapes systemd takes the
// character behind it as it stands.
type escapes bool

const (
	cEscapes  escapes = true
	noEscapes escapes = false
)

// part is a word, how it was spelled, and what ended it: a separator, or 0 at the
// end of the line.
type part struct {
	text, spelled string
	end           byte
}

// split reads words with extract_first_word's rules: separated by white space and
// the characters of seps, quoted in part or whole, backslashes escaping.
func split(raw, seps string, e escapes) ([]part, error) {
	var out []part
	isSep := func(c byte) bool { return strings.IndexByte(" \t"+seps, c) >= 0 }
	for i := 0; i < len(raw); {
		if strings.IndexByte(" \t", raw[i]) >= 0 {
			i++
			continue
		}
		var b strings.Builder
		var quote byte
		start := i
		for ; i < len(raw) && (quote != 0 || !isSep(raw[i])); i++ {
			switch c := raw[i]; {
			case c == quote:
				quote = 0
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
			case c == '\\':
				if i++; i == len(raw) {
					return nil, fmt.Errorf("a backslash at the end of %q", raw)
				}
				if e == cEscapes && strings.IndexByte(`\"'`, raw[i]) < 0 {
					return nil, fmt.Errorf(`\%c in %q is an escape that the writer never means`, raw[i], raw)
				}
				b.WriteByte(raw[i])
			default:
				b.WriteByte(c)
			}
		}
		if quote != 0 {
			return nil, fmt.Errorf("unbalanced quotes in %q", raw)
		}
		p := part{text: b.String(), spelled: raw[start:i]}
		if i < len(raw) {
			p.end = raw[i]
			i++
		}
		out = append(out, p)
	}
	return out, nil
}

// list reads a directive that is a list of words, specifiers expanded last.
func list(raw string, e escapes) ([]string, error) {
	parts, err := split(raw, "", e)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(parts))
	for i, p := range parts {
		if out[i], err = specifiers(p.text); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// binds reads BindPaths= and its read-only form as "source:destination" pairs;
// a source alone is also the destination.
func binds(raw string) ([][2]string, error) {
	parts, err := split(raw, ":", noEscapes)
	if err != nil {
		return nil, err
	}
	var out [][2]string
	for i := 0; i < len(parts); i++ {
		source, err := specifiers(parts[i].text)
		if err != nil {
			return nil, err
		}
		destination := strings.TrimPrefix(source, "-")
		if parts[i].end == ':' {
			if i++; i == len(parts) || parts[i].end == ':' {
				return nil, fmt.Errorf("%q is not source:destination", raw)
			}
			if destination, err = specifiers(parts[i].text); err != nil {
				return nil, err
			}
		}
		out = append(out, [2]string{source, destination})
	}
	return out, nil
}

// command is a line of ExecStart= and its like.
type command struct {
	prefix string // of "@-:+!|"
	argv   []string
}

func readCommand(raw string) (command, error) {
	parts, err := split(raw, "", cEscapes)
	if err != nil || len(parts) == 0 {
		return command{}, fmt.Errorf("no command in %q: %w", raw, err)
	}
	words := make([]string, len(parts))
	for i, p := range parts {
		if p.spelled == ";" {
			return command{}, fmt.Errorf("two commands in %q", raw)
		}
		if words[i], err = specifiers(p.text); err != nil {
			return command{}, err
		}
	}
	var c command
	program := strings.TrimLeft(words[0], "@-:+!|")
	c.prefix = words[0][:len(words[0])-len(program)]
	if !strings.HasPrefix(program, "/") || strings.ContainsAny(program, `"'\`) {
		return command{}, fmt.Errorf("systemd runs no program %q", program)
	}
	c.argv = []string{program}
	for _, w := range words[1:] {
		a, err := dollars(w)
		if err != nil {
			return command{}, err
		}
		c.argv = append(c.argv, a)
	}
	return c, nil
}

// dollars reads $$ in an argument and refuses what systemd would expand.
func dollars(s string) (string, error) {
	rest := strings.ReplaceAll(s, "$$", "")
	if strings.Contains(rest, "$") {
		return "", fmt.Errorf("a variable in %q", s)
	}
	return strings.ReplaceAll(s, "$$", "$"), nil
}

// environmentFile reads EnvironmentFile=: specifiers, then glob(7).
func environmentFile(raw string) (path string, err error) {
	s, err := specifiers(raw)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '*', '?', '[':
			return "", fmt.Errorf("a pattern in %q", raw)
		case '\\':
			if i++; i == len(s) {
				return "", fmt.Errorf("a backslash at the end of %q", raw)
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), nil
}

// unitText is a unit file that a test asks about.
type unitText struct {
	t          testing.TB
	directives []directive
}

func parseUnit(t testing.TB, text string) unitText {
	t.Helper()
	d, err := readUnit(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return unitText{t, d}
}

// all are the values of a directive as they stand.
func (u unitText) all(key string) []string {
	var out []string
	for _, d := range u.directives {
		if d.key == key {
			out = append(out, d.raw)
		}
	}
	return out
}

// read applies a reader to every line of a directive and joins what it found.
func read[T any](u unitText, key string, one func(string) ([]T, error)) []T {
	u.t.Helper()
	var out []T
	for _, raw := range u.all(key) {
		values, err := one(raw)
		if err != nil {
			u.t.Fatalf("%s=%s: %v", key, raw, err)
		}
		out = append(out, values...)
	}
	return out
}

// single turns a reader of one value into one for read.
func single[T any](one func(string) (T, error)) func(string) ([]T, error) {
	return func(raw string) ([]T, error) {
		v, err := one(raw)
		return []T{v}, err
	}
}
