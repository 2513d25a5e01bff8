package nix

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestEveryFileParses: Nix reads each of the repository's files.
func TestEveryFileParses(t *testing.T) {
	need(t)
	files := nixFiles(t)
	if len(files) < 20 {
		t.Fatalf("only %q", files)
	}
	for _, f := range files {
		if out, err := nix("nix-instantiate", "--parse", f).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", f, err, out)
		}
	}
}

func nixFiles(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, dir := range []string{"nixos", "examples", "tests/nix"} {
		err := filepath.WalkDir(filepath.Join(place.root, dir), func(path string, _ os.DirEntry, err error) error {
			if strings.HasSuffix(path, ".nix") {
				out = append(out, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return append(out, filepath.Join(place.root, "flake.nix"))
}

// TestFlake: the outputs that users of the predecessor know, and those of the issue's
// other systems.
func TestFlake(t *testing.T) {
	outputs := evaluate[map[string][]string](t, `lib.mapAttrs (_: builtins.attrNames) (removeAttrs flake [ "outPath" ])`)
	for output, want := range map[string][]string{
		"overlays":     {"default"},
		"nixosModules": {"default", "example-chief-coding-assistant", "example-simple-coding-assistant", "opencode"},
		"examples":     {"chief-coding-assistant", "simple-coding-assistant"},
		"packages":     {"aarch64-linux", "x86_64-linux"},
		"checks":       {"aarch64-linux", "x86_64-linux"},
		"devShells":    {"aarch64-linux", "x86_64-linux"},
		"apps":         {"x86_64-linux"},
		"lib":          {"aarch64-darwin", "aarch64-linux", "x86_64-darwin", "x86_64-linux"},
		"formatter":    {"aarch64-darwin", "aarch64-linux", "x86_64-darwin", "x86_64-linux"},
	} {
		if !slices.Equal(outputs[output], want) {
			t.Errorf("%s has %q, want %q", output, outputs[output], want)
		}
	}
	// Every output is a value that Nix can look at, down to the derivations.
	if got := evaluate[[]string](t, `map (x: x.drvPath) (lib.concatMap builtins.attrValues [
		flake.packages.x86_64-linux flake.devShells.aarch64-linux flake.checks.x86_64-linux flake.checks.aarch64-linux ])`); len(got) < 20 {
		t.Errorf("only %d derivations: %q", len(got), got)
	}
	contains(t, read(t, build(t, `pkgs.writeText "program" flake.apps.x86_64-linux.run-nixos-tests.program`)), "run-nixos-tests")
}

// TestVendorHash: nixpkgs would fetch the modules that this repository's go.sum names.
func TestVendorHash(t *testing.T) {
	need(t)
	vendor := filepath.Join(t.TempDir(), "vendor")
	c := exec.Command("go", "mod", "vendor", "-o", vendor)
	c.Dir = place.root
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, err := nix("nix", "--extra-experimental-features", "nix-command", "hash", "path", vendor).Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := evaluate[string](t, `(pkgs.callPackage ../../nixos/package.nix { buildGoModule = x: x; }).vendorHash`); want != strings.TrimSpace(string(got)) {
		t.Errorf("vendorHash of nixos/package.nix is %s, the modules hash to %s: write that there", want, got)
	}
}

// TestDocumentedNix: what the documentation shows is Nix.
func TestDocumentedNix(t *testing.T) {
	need(t)
	for _, file := range []string{"docs/nixos.md", "README.md"} {
		blocks := strings.Split(read(t, filepath.Join(place.root, file)), "\n```nix\n")
		if len(blocks) < 2 {
			t.Errorf("%s shows no Nix", file)
		}
		for _, block := range blocks[1:] {
			code, _, _ := strings.Cut(block, "\n```")
			// What the reader's own flake has in scope.
			if out, err := nix("nix-instantiate", "--parse", "--expr", "{ pkgs, opencoded }:\n"+code).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s\n%s", file, err, out, code)
			}
		}
	}
}
