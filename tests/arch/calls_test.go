package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// clock are the functions of package time whose result depends on when they run.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// TestPureCodeHasNoClock: the same bytes in give the same bytes out, whenever.
func TestPureCodeHasNoClock(t *testing.T) {
	for _, p := range list(t) {
		r, _ := find(strings.TrimPrefix(p.ImportPath, module))
		if !r.pure {
			continue
		}
		for _, name := range p.GoFiles {
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, s.Sel.Name) {
					t.Errorf("%s: time.%s in a pure package", set.Position(s.Pos()), s.Sel.Name)
				}
				return true
			})
		}
	}
}

// netlinkFiles are the half of netpolicy that talks to the kernel. Whatever else
// is in the package prints, compares and decides, and would do so on any machine.
var netlinkFiles = []string{"kernel.go", "socket.go", "batch.go", "watch.go", "input.go", "read.go", "write.go", "decode.go", "codec.go", "transaction.go", "errors.go", "element.go", "field.go", "statement.go"}

// TestNetpolicyHalves keeps the rulesets themselves free of netlink.
func TestNetpolicyHalves(t *testing.T) {
	for _, p := range list(t) {
		if p.ImportPath != module+"internal/netpolicy" {
			continue
		}
		for _, name := range p.GoFiles {
			if slices.Contains(netlinkFiles, name) {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range file.Imports {
				path, err := strconv.Unquote(i.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				pure := rule{pure: true, project: []string{"internal/destination"}}
				if why := pure.refuses(path); why != "" {
					t.Errorf("netpolicy/%s imports %s: %s", name, path, why)
				}
			}
		}
	}
}
