package document

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity tells an error, which stops everything, from a warning and a note.
type Severity int

// The severities, the gravest first.
const (
	Error Severity = iota
	Warning
	Note
)

func (s Severity) String() string {
	return [...]string{"error", "warning", "note"}[s]
}

// MarshalText makes severities readable in JSON output.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Diagnostic is one finding about a document: what is wrong, where, and what to
// do about it.
type Diagnostic struct {
	Severity Severity
	Pos      Pos
	Message  string
	Hint     string // the remedy; may be empty
}

// String prints a diagnostic on one line: place, what is wrong, and in
// parentheses what to do. Errors need no label; the others say what they are.
func (d Diagnostic) String() string {
	var b strings.Builder
	if d.Pos.File != "" {
		fmt.Fprintf(&b, "%s: ", d.Pos)
	}
	if d.Severity != Error {
		fmt.Fprintf(&b, "%s: ", d.Severity)
	}
	b.WriteString(d.Message)
	if d.Hint != "" {
		fmt.Fprintf(&b, " (%s)", d.Hint)
	}
	return b.String()
}

// Diagnostics collects findings, so that a user sees all of a file at once.
// The zero value is ready to use.
type Diagnostics []Diagnostic

// Errorf adds an error without a remedy of its own.
func (ds *Diagnostics) Errorf(pos Pos, format string, args ...any) {
	ds.Add(Error, pos, "", format, args...)
}

// Add adds a finding. A second one of the same words at the same place is
// dropped: a mistake in [defaults] is one mistake, however many inherit it.
func (ds *Diagnostics) Add(s Severity, pos Pos, hint, format string, args ...any) {
	ds.AddAll(Diagnostics{{Severity: s, Pos: pos, Message: clip(fmt.Sprintf(format, args...)), Hint: clip(hint)}})
}

// clip keeps a message readable that quotes what stands in a file.
func clip(s string) string {
	const most = 1000
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// AddAll adds findings, but for those that are there already.
func (ds *Diagnostics) AddAll(more Diagnostics) {
	for _, d := range more {
		if !slices.Contains(*ds, d) {
			*ds = append(*ds, d)
		}
	}
}

// Sort orders findings by place, as they stand in the files.
func (ds Diagnostics) Sort() {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(
			cmp.Compare(a.Pos.File, b.Pos.File),
			cmp.Compare(a.Pos.Line, b.Pos.Line),
			cmp.Compare(a.Pos.Column, b.Pos.Column),
		)
	})
}

// Errors returns the findings that are errors.
func (ds Diagnostics) Errors() Diagnostics { return ds.of(Error) }

// Warnings returns the findings that are not errors.
func (ds Diagnostics) Warnings() Diagnostics { return ds.of(Warning, Note) }

func (ds Diagnostics) of(want ...Severity) Diagnostics {
	var out Diagnostics
	for _, d := range ds {
		if slices.Contains(want, d.Severity) {
			out = append(out, d)
		}
	}
	return out
}

// Nearest returns the candidate that word was most likely meant to be, or ""
// when none is near. Case, hyphens, underscores and dots do not count, so that
// camelCase and kebab-case spellings find their key.
func Nearest(word string, candidates []string) string {
	best, _ := nearest(word, candidates)
	return best
}

// Unmistakable returns the candidate that alone is a single slip away from word,
// or "" when there is none or a choice: good enough to repair without asking.
func Unmistakable(word string, candidates []string) string {
	best, slips := nearest(word, candidates)
	if slips > 1 {
		return ""
	}
	for _, c := range candidates {
		if c != best && distance(fold(word), fold(c)) <= 1 {
			return ""
		}
	}
	return best
}

// longestWord is up to where a slip of the pen is looked for.
const longestWord = 100

// nearest also tells how many slips are between. Of several as near it takes the
// one of the same length: letters are swapped more often than left out.
func nearest(word string, candidates []string) (best string, slips int) {
	slips = 1 + len(word)/3
	if len(word) > longestWord {
		return "", slips
	}
	for _, c := range candidates {
		d := distance(fold(word), fold(c))
		if d < slips || d == slips && best != "" && len(c) == len(word) && len(best) != len(word) {
			best, slips = c, d
		}
	}
	return best, slips
}

func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "", ".", "").Replace(s))
}

// distance is the optimal string alignment distance: insertions, deletions,
// substitutions and swaps of neighbours.
func distance(a, b string) int {
	var before, previous, row []int
	previous = make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row = make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, previous[j]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, previous = previous, row
	}
	return previous[len(b)]
}
