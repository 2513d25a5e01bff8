package script

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestExamples: every example is what an operator may begin with, so opencoded
// has nothing to remark.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		out, err := exec.Command(filepath.Join(program, "opencoded"), "validate", file).CombinedOutput()
		if want := file + " is valid\n"; err != nil || string(out) != want {
			t.Errorf("validate %s: %v\n%s", file, err, out)
		}
	}
}

// TestDocumentedCommands: every command line of the documentation names commands
// and flags that exist. With --help nothing is done, but all is parsed.
func TestDocumentedCommands(t *testing.T) {
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../examples/*.toml", "../../examples/*/*.md", "../../examples/*/*.toml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range commandLines(file, string(text)) {
				check(t, file, line)
			}
		}
	}
}

// call is a call of opencoded, with or without sudo.
var call = regexp.MustCompile("^(?:sudo )?opencoded( .*)?$")

// commandLines finds the calls of opencoded in a document: in the fenced blocks
// and the code spans of Markdown, and in the indented comments of anything else.
// What follows a comment sign, a pipe or a redirection is not opencoded's.
func commandLines(file, text string) [][]string {
	var candidates []string
	fenced, markdown := false, strings.HasSuffix(file, ".md")
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case markdown && strings.HasPrefix(strings.TrimLeft(line, " "), "```"):
			fenced = !fenced
		case markdown && fenced:
			candidates = append(candidates, strings.TrimPrefix(strings.TrimSpace(line), "$ "))
		case markdown:
			for n, span := range strings.Split(line, "`") {
				if n%2 == 1 {
					candidates = append(candidates, span)
				}
			}
		case strings.HasPrefix(line, "#  "):
			candidates = append(candidates, strings.TrimSpace(line[1:]))
		}
	}
	var out [][]string
	for _, c := range candidates {
		if m := call.FindStringSubmatch(c); m != nil {
			words := strings.Fields(m[1])
			if end := slices.IndexFunc(words, func(w string) bool { return strings.ContainsAny(w, "#|<>;&") }); end >= 0 {
				words = words[:end]
			}
			out = append(out, words)
		}
	}
	return out
}

func check(t *testing.T, file string, args []string) {
	opencoded, line := filepath.Join(program, "opencoded"), "opencoded "+strings.Join(args, " ")
	out, err := exec.Command(opencoded, append(args, "--help")...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %s: %v\n%s", file, line, err, out)
		return
	}
	// The help of an unknown command is that of the one above it.
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") && !strings.Contains(string(out), "\n  opencoded "+args[0]+" ") {
		t.Errorf("%s: %s: there is no command %q", file, line, args[0])
	}
}

func TestCommandLines(t *testing.T) {
	const text = "opencoded is prose. `opencoded status` is not, nor `sudo opencoded net ensure web`; `opencoded` is a name.\n" +
		"```sh\n$ sudo opencoded plan --exit-code  # comment\nopencoded validate a.toml | less\nopencoded: an error\n```\n"
	got := fmt.Sprint(commandLines("x.md", text))
	if want := "[[status] [net ensure web] [] [plan --exit-code] [validate a.toml]]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := fmt.Sprint(commandLines("x.toml", "# opencoded is prose\n#   sudo opencoded apply\n")); got != "[[apply]]" {
		t.Errorf("got %s", got)
	}
}
