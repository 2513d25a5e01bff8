package sandbox

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/opencoded/opencoded/internal/instance"
)

// A value can reach a unit file only through the types of this file, so that no
// path, argument or variable becomes a directive, a specifier or a second word:
// systemd ends a directive at a newline, expands % everywhere, splits lists at
// white space and expands $ in command lines. See systemd.syntax(7),
// systemd.exec(5) and "COMMAND LINES" in systemd.service(5).

// value is text that is ready to stand to the right of a "=".
type value string

// verbatim is for directives that take the whole rest of the line as one value:
// WorkingDirectory=, RootDirectory=, Description=.
func verbatim(s string) value {
	return value(strings.ReplaceAll(s, "%", "%%"))
}

// pattern is for EnvironmentFile=, which is a glob(7) pattern: the file of that
// name is meant and no other.
func pattern(s string) value { return verbatim(globEscape.Replace(s)) }

var globEscape = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)

// word is one element of a list that systemd splits at white space, and at
// colons in BindPaths=. Quotes protect both.
func word(s string) value {
	if s != "" && !strings.ContainsFunc(s, needsQuotes) {
		return verbatim(s)
	}
	return value(`"`) + verbatim(escape.Replace(s)) + value(`"`)
}

// argument is one argument of a command line, where $ begins a variable.
func argument(s string) value {
	return value(strings.ReplaceAll(string(word(s)), "$", "$$"))
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// needsQuotes lists what is special in a word anywhere; ";" alone separates
// commands, and "-", "+", ":", "@", "!", "|" are prefixes only where no "/"
// stands first, which quoting of ":" and the absolute paths rule out.
func needsQuotes(r rune) bool {
	return unicode.IsSpace(r) || strings.ContainsRune("\"'\\:;", r)
}

// words joins the elements of a list.
func words(list ...value) value {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return value(strings.Join(out, " "))
}

// unit collects the lines of a unit file and keeps its first error.
type unit struct {
	b   strings.Builder
	err error
}

func (u *unit) section(name string) {
	if u.b.Len() > 0 {
		u.b.WriteByte('\n')
	}
	fmt.Fprintf(&u.b, "[%s]\n", name)
}

// set writes one directive. The inventory refuses unfit characters with a place;
// here they can still come in with what the host resolved. An empty value of the
// caller's making resets a list, which is meant where it is written.
func (u *unit) set(key string, v value) {
	if i := strings.IndexFunc(string(v), instance.Unfit); i >= 0 {
		u.fail("cannot write %s=: it contains %q (rename the path)", key, string(v)[i:i+1])
	}
	if strings.HasSuffix(string(v), `\`) {
		// A backslash at the end of a line continues it.
		u.fail("cannot write %s=%s: it ends with a backslash (rename the path)", key, v)
	}
	fmt.Fprintf(&u.b, "%s=%s\n", key, v)
}

// command writes a command line. The program itself is neither expanded nor
// unescaped as its arguments are: systemd takes $ there as it stands, and refuses
// quotes and backslashes (string_is_safe in config_parse_exec).
func (u *unit) command(key, prefix, program string, args ...string) {
	if strings.ContainsAny(program, `"'\`) {
		u.fail("cannot run %s: systemd refuses a program with quotes or backslashes in its path (rename it)", program)
	}
	line := []value{word(prefix + program)}
	for _, a := range args {
		line = append(line, argument(a))
	}
	u.set(key, words(line...))
}

// fail keeps the first error.
func (u *unit) fail(format string, args ...any) {
	if u.err == nil {
		u.err = fmt.Errorf(format, args...)
	}
}

// list writes a directive when there is something to write.
func (u *unit) list(key string, list []value) {
	if len(list) > 0 {
		u.set(key, words(list...))
	}
}

func (u *unit) comment(text string) {
	fmt.Fprintf(&u.b, "# %s\n", text)
}

func (u *unit) text() (string, error) { return u.b.String(), u.err }
