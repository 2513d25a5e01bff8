// Package arch holds the packages to the arrows of ARCHITECTURE.md: what a
// package may import is written down here, and nothing else is allowed.
package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/opencoded/opencoded/"

// Third parties, by what they are for.
const (
	toml       = "github.com/BurntSushi/toml"
	tomlSyntax = "github.com/pelletier/go-toml/v2/"
	jsonc      = "github.com/tailscale/hujson"
	jsonSchema = "github.com/google/jsonschema-go/"
	yaml       = "github.com/goccy/go-yaml"
	diffs      = "github.com/aymanbagabas/go-udiff"
	nftables   = "github.com/google/nftables"
	netlink    = "github.com/mdlayher/netlink"
	systemd    = "github.com/coreos/go-systemd/"
	dbus       = "github.com/godbus/dbus/"
	cobra      = "github.com/spf13/cobra"
	zap        = "go.uber.org/zap"
	fsnotify   = "github.com/fsnotify/fsnotify"
	landlock   = "github.com/landlock-lsm/go-landlock/"
	sys        = "golang.org/x/sys/"
	zstd       = "github.com/klauspost/compress/zstd"
	terminal   = "golang.org/x/term"
	prometheus = "github.com/prometheus/client_golang/"
)

// rule is what a package may import besides the standard library. A pure package
// has no effects: of the standard library it gets nothing that reads or changes
// the host, and it never asks for the time.
type rule struct {
	pure    bool
	project []string // packages of this module
	foreign []string // prefixes of import paths
}

// rules name every package of the product. The arrows go one way: each line
// imports only what stands above it.
var rules = []struct {
	pkg string
	rule
}{
	{"internal/lazy", rule{pure: true}},
	{"internal/document", rule{pure: true, project: []string{"internal/lazy"}, foreign: []string{toml, tomlSyntax, jsonc, yaml}}},
	{"internal/destination", rule{pure: true}},
	{"internal/instance", rule{pure: true, project: []string{"internal/document", "internal/lazy", "internal/destination"}}},
	{"internal/schema", rule{pure: true, project: []string{"internal/document", "internal/lazy"}, foreign: []string{jsonSchema}}},
	{"internal/config", rule{pure: true, project: []string{"internal/document", "internal/lazy", "internal/schema"}}},
	{"internal/sandbox", rule{pure: true, project: []string{"internal/instance", "internal/lazy", "internal/destination"}}},
	// Its other half is the only netlink code: see TestNetpolicyHalves.
	{"internal/netpolicy", rule{project: []string{"internal/destination"}, foreign: []string{nftables, netlink, sys}}},
	{"internal/blocked", rule{pure: true, project: []string{"internal/destination", "internal/netpolicy"}}},
	{"internal/plan", rule{pure: true, foreign: []string{diffs}, project: []string{
		"internal/document", "internal/lazy", "internal/destination", "internal/instance", "internal/schema", "internal/config", "internal/sandbox", "internal/netpolicy"}}},
	{"internal/nixoptions", rule{pure: true, project: []string{"internal/instance", "internal/schema"}}},
	{"internal/confine", rule{foreign: []string{landlock, sys}}},
	{"internal/quota", rule{foreign: []string{sys}}},
	{"internal/host", rule{foreign: []string{systemd, dbus, sys}, project: []string{
		"internal/document", "internal/lazy", "internal/destination", "internal/instance", "internal/schema", "internal/config", "internal/sandbox", "internal/netpolicy", "internal/blocked", "internal/plan", "internal/confine", "internal/quota"}}},
	{"internal/control", rule{}},
	{"internal/daemon", rule{foreign: []string{systemd, dbus, sys, zap, fsnotify, prometheus}, project: []string{
		"internal/document", "internal/destination", "internal/instance", "internal/sandbox", "internal/netpolicy", "internal/plan", "internal/host", "internal/control"}}},
	{"internal/tree", rule{foreign: []string{zstd}}},
	{"internal/wrap", rule{pure: true, project: []string{"internal/lazy", "internal/config", "internal/schema", "internal/tree"}}},
	{"cmd/opencoded", rule{foreign: []string{cobra, zap, terminal, sys, systemd + "v22/journal"}, project: []string{
		"internal/document", "internal/lazy", "internal/destination", "internal/instance", "internal/schema", "internal/config", "internal/sandbox", "internal/netpolicy", "internal/blocked", "internal/plan",
		"internal/host", "internal/control", "internal/daemon", "internal/confine", "internal/tree", "internal/wrap"}}},
}

// effects are packages of the standard library that reach the host.
var effects = []string{"os", "os/exec", "os/user", "os/signal", "io/ioutil", "net", "net/http", "syscall", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand"}

type pkg struct {
	Dir        string
	ImportPath string
	Standard   bool
	GoFiles    []string
	Imports    []string
}

// list asks the go command, so that build tags and the module are its business.
func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=Dir,ImportPath,Standard,GoFiles,Imports", "./internal/...", "./cmd/...")
	cmd.Dir = "../.."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return packages
		case err != nil:
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func TestImports(t *testing.T) {
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if len(p.GoFiles) == 0 {
			continue // nothing but tests
		}
		r, ok := find(name)
		if !ok {
			t.Errorf("%s stands in no line of the table: say there what it may import", name)
			continue
		}
		for _, i := range p.Imports {
			if why := r.refuses(i); why != "" {
				t.Errorf("%s imports %s: %s", name, i, why)
			}
		}
	}
}

func find(name string) (rule, bool) {
	for _, r := range rules {
		if r.pkg == name {
			return r.rule, true
		}
	}
	return rule{}, false
}

// refuses says why an import is not allowed; "" means that it is.
func (r rule) refuses(path string) string {
	own, inside := strings.CutPrefix(path, module)
	domain, _, _ := strings.Cut(path, "/")
	switch {
	case inside && !slices.Contains(r.project, own):
		return "no arrow goes there"
	case inside:
	case strings.Contains(domain, "."):
		if !slices.ContainsFunc(r.foreign, func(prefix string) bool {
			return path == prefix || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
		}) {
			return "this third party belongs to another package"
		}
	case r.pure && slices.Contains(effects, path):
		return "the package is pure"
	}
	return ""
}

// TestArrowsGoOneWay: no line of the table allows what stands below it.
func TestArrowsGoOneWay(t *testing.T) {
	above := map[string]bool{}
	for _, r := range rules {
		for _, p := range r.project {
			if !above[p] {
				t.Errorf("%s may import %s, which does not stand above it", r.pkg, p)
			}
		}
		above[r.pkg] = true
	}
}
