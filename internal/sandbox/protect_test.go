package sandbox

import (
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/instance"
)

func TestProtected(t *testing.T) {
	for _, c := range []struct {
		name, protect, writable string
		repository              Repository
		want                    string
	}{
		{name: "a repository", protect: "/p/.git/hooks /p/.envrc", want: "/p/.envrc /p/.git/hooks"},
		{name: "a worktree", protect: "/p/.git/hooks /p/.envrc", repository: Repository{File: true, Common: "/main/.git"}, want: "/p/.envrc /p/.git"},
		{name: "a worktree with its repository", protect: "/p/.git/hooks /p/.git/config", writable: "/main/.git",
			repository: Repository{File: true, Common: "/main/.git"}, want: "/main/.git/config /main/.git/hooks /p/.git"},
		{name: "a file that names no repository", protect: "/p/.git/hooks", repository: Repository{File: true}, want: "/p/.git"},
		{name: "what cannot be written", protect: "/elsewhere/x /p", want: ""},
		{name: "what is given for writing", protect: "/p/a /p/b/c /p/d", writable: "/p/a /p/b /p/d/e", want: "/p/b/c"},
		{name: "twice", protect: "/p/a /p/a", want: "/p/a"},
	} {
		i := &instance.Instance{Directory: "/p", StateDir: "/s", Sandbox: instance.Sandbox{Protect: strings.Fields(c.protect)}}
		for _, w := range strings.Fields(c.writable) {
			i.Sandbox.ReadWritePaths = append(i.Sandbox.ReadWritePaths, instance.Path{Path: w})
		}
		if got := strings.Join(Protected(i, c.repository), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
