package document

import (
	"strings"

	"github.com/opencoded/opencoded/internal/lazy"
)

// mended is a head that is no valid YAML as opencode tries it once more: every
// value on the line of its key that holds a colon has become a block of text.
type mended struct {
	text   string
	places []Pos // of each line: where it stood, and the column of its value (0: as it stands)
	values []mendedValue
}

// mendedValue is a value that became text.
type mendedValue struct {
	pos       Pos
	key, text string
	lines     string // the value as it stood, with the lines that go on
}

var headLine = lazy.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)\s*:\s*(.*)$`)

// mend is the repair of opencode 1.18 (ConfigMarkdown.sanitize). The second result
// is false where it changes nothing.
func mend(file, head string) (mended, bool) {
	var m mended
	var out []string
	add := func(line string, pos Pos) { out, m.places = append(out, line), append(m.places, pos) }
	lines := strings.Split(head, "\n")
	for i, line := range lines {
		pos := Pos{File: file, Line: i + 1}
		match := headLine.FindStringSubmatch(line)
		if match == nil || !strings.Contains(match[2], ":") || strings.HasPrefix(match[2], `"`) || strings.HasPrefix(match[2], "'") {
			add(line, pos)
			continue
		}
		end := i + 1
		for end < len(lines) && strings.HasPrefix(lines[end], " ") {
			end++
		}
		pos.Column = len(line) - len(match[2]) + 1
		v := mendedValue{pos, match[1], strings.TrimSpace(match[2]), strings.Join(lines[i:end], "\n")}
		m.values = append(m.values, v)
		add(v.key+": |-", pos)
		add("  "+v.text, pos)
	}
	m.text = strings.Join(out, "\n")
	return m, len(m.values) > 0
}

// original is where what stands at a place of the mended head stood.
func (m mended) original(p Pos) Pos {
	if p.Line < 1 || p.Line > len(m.places) {
		return p
	}
	was := m.places[p.Line-1]
	if p.Line = was.Line; was.Column > 0 && p.Column > 1 {
		p.Column = was.Column
	}
	return p
}

// findings are warnings for the values that opencode takes otherwise than they
// stand. There are none where nobody can say what it takes: its YAML reader goes
// on behind a list or table that ends, as no other does. The second result is true
// where no value is meant otherwise than opencode takes it.
func (m mended) findings() (out Diagnostics, meant bool) {
	found := false
	meant = true
	for _, v := range m.values {
		alone := yamlReader{}
		t := alone.document([]byte(v.lines))
		first, _, _ := strings.Cut(v.lines, "\n")
		text, _ := (&yamlReader{}).document([]byte(first)).Get(v.key).Text()
		switch {
		case alone.invalid && strings.ContainsAny(v.text[:1], "[{?"):
			return nil, false
		case alone.invalid:
			found = true
			out.Add(Warning, v.pos, "put the value into quotes",
				"%s is not valid YAML: opencode takes it for text when it first reads the file, and drops the whole head after that", v.key)
		case t.Get(v.key) != nil && text != v.text:
			meant = false
			out.Add(Warning, v.pos, "put the value that is not valid YAML into quotes", "%s: opencode takes it for text, because of another value", v.key)
		}
	}
	if !found {
		return nil, false
	}
	return out, meant
}
