package escape

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/isolation.md")

const documentPath = "../../docs/isolation.md"

const preface = `# What an instance cannot do, and what it can

Each line is a probe that is run inside of a running instance, through opencode's own shell, by ` + "`make test`" + `; this file is
made from the same table (` + "`go test ./tests/escape -update`" + `). An instance with the defaults and restricted egress tries to
reach another instance and the host; the last column is how it has to end, to the letter. Nearly all are also run as
root outside of an instance, where they have to end otherwise: a refusal of a broken probe would show.

| error | means |
|---|---|
| ENOENT | it is not there: not bound into the root of the instance, or hidden |
| EACCES | it is there, for root alone |
| EROFS, EBUSY, EXDEV | read-only; a mount point, which cannot be moved or replaced; on another mount |
| EPERM | refused: by the system call filter, for want of a capability, or by Landlock |
| EAFNOSUPPORT, ENOSYS | as if the kernel had no such sockets, or no such call |
| EHOSTDOWN | what systemctl says where systemd is out of reach |
| killed | the kernel ends the program |
| no answer | packets are dropped |

` + "`*`" + ` the kernel refuses everybody, root outside as well. ` + "`Landlock`" + `: holds from Linux 6.12 on; ` + "`opencoded doctor`" + ` says where not.
`

// document is docs/isolation.md.
func document() string {
	var b strings.Builder
	b.WriteString(preface)
	for _, c := range categories {
		if c.id != workID {
			fmt.Fprintf(&b, "\n## %s\n\n| tried | ends with |\n|---|---|\n", c.title)
			rows(&b, c.probes, func(p probe) string {
				if p.want == succeeded {
					return ""
				}
				return ending(p)
			})
		}
	}
	b.WriteString("\n## What is possible on purpose\n\n| what | why |\n|---|---|\n")
	for _, c := range categories {
		rows(&b, c.probes, func(p probe) string { return p.why })
	}
	b.WriteString("\n## Ordinary work\n\nAll of this works with the sandbox as it is by default.\n\n")
	for _, c := range categories {
		if c.id == workID {
			for _, p := range c.probes {
				fmt.Fprintf(&b, "- %s\n", p.tries)
			}
		}
	}
	return b.String()
}

// rows writes one for each probe of which the second column says something.
func rows(b *strings.Builder, probes []probe, second func(probe) string) {
	for _, p := range probes {
		if text := second(p); text != "" {
			fmt.Fprintf(b, "| %s | %s |\n", p.tries, text)
		}
	}
}

func ending(p probe) string {
	text := p.want
	if p.control == everybody {
		text += " `*`"
	}
	if p.needs == "landlock" {
		text += " `Landlock`"
	}
	return text
}

// TestDocument: docs/isolation.md says what the table says.
func TestDocument(t *testing.T) {
	if *update {
		if err := os.WriteFile(documentPath, []byte(document()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(documentPath)
	if err != nil || string(got) != document() {
		t.Errorf("docs/isolation.md is out of date (run: go test ./tests/escape -update -run Document): %v", err)
	}
}
