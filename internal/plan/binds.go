package plan

import (
	"fmt"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
)

// bindable refuses what this host's systemd cannot bind: better before anything
// is touched than at the first start.
func (b *builder) bindable() {
	unfit, s := b.facts.Sandbox.Unbindable(), b.i.Sandbox
	bound := []struct{ key, path string }{{"directory", b.i.Directory}, {"state_dir", b.i.StateDir}}
	for n, p := range s.ReadWritePaths {
		bound = append(bound, struct{ key, path string }{fmt.Sprintf("sandbox.read_write_paths.%d", n), p.Path})
	}
	for n, p := range s.ReadOnlyPaths {
		bound = append(bound, struct{ key, path string }{fmt.Sprintf("sandbox.read_only_paths.%d", n), p.Path})
	}
	for n, p := range s.UnixSockets {
		bound = append(bound, struct{ key, path string }{fmt.Sprintf("sandbox.unix_sockets.allow.%d", n), p})
	}
	for _, p := range bound {
		if n := strings.IndexAny(p.path, unfit); n >= 0 {
			b.problems.Add(document.Error, b.i.At(p.key), "rename it",
				"instances.%s.%s: systemd %d cannot bind a path with %c in it: %s",
				b.i.Name, p.key, b.facts.Sandbox.SystemdVersion, p.path[n], p.path)
		}
	}
}
