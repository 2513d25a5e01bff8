package host

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/sandbox"
)

// repository looks at how git has laid out the project. A worktree or submodule is
// of no use to an agent that does not see the repository that it belongs to.
func (c *checker) repository() {
	r := readRepository(c.i.Directory)
	c.facts.Repository[c.i.Name] = r
	if r.Common != "" && !sandbox.Visible(c.i, r.Common) {
		c.warn("directory", "add it to sandbox.read_write_paths, if that is what the agent shall work on",
			"%s belongs to the repository %s, which the instance does not see: git will not work in it", c.i.Directory, r.Common)
	}
}

// readRepository reads gitrepository-layout(5) no further than it must. The agent may
// have written all of it: what cannot be a path in a unit file is no path.
func readRepository(dir string) sandbox.Repository {
	git := filepath.Join(dir, ".git")
	info, err := os.Lstat(git)
	if err != nil || !info.Mode().IsRegular() {
		return sandbox.Repository{}
	}
	r := sandbox.Repository{File: true}
	own, ok := strings.CutPrefix(firstLine(git), "gitdir: ")
	if !ok {
		return r
	}
	own = beside(dir, own)
	r.Common = own // of a submodule
	if common := firstLine(filepath.Join(own, "commondir")); common != "" {
		r.Common = beside(own, common)
	}
	if strings.ContainsFunc(r.Common, instance.Unfit) || strings.TrimSpace(r.Common) != r.Common || r.Common == "/" {
		r.Common = ""
	}
	return r
}

func beside(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// firstLine is the first line of a small regular file, "" where there is none.
func firstLine(path string) string {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(f, 4096))
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}
