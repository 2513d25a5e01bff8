package opencode

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func TestPlatformPackage(t *testing.T) {
	for _, tc := range []struct {
		arch string
		avx2 bool
		want string
	}{
		{"amd64", true, "opencode-linux-x64"},
		{"amd64", false, "opencode-linux-x64-baseline"},
		{"arm64", false, "opencode-linux-arm64"},
		{"riscv64", false, ""},
	} {
		got, err := platformPackage(tc.arch, tc.avx2)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("platformPackage(%q, %t) = %q, %v; want %q", tc.arch, tc.avx2, got, err, tc.want)
		}
	}
}

// manifest reads what package.json and the lock file pin.
func manifest(t *testing.T) (wanted map[string]string, lock string) {
	t.Helper()
	var pkg struct {
		OptionalDependencies map[string]string
	}
	text, err := os.ReadFile("package.json")
	if err == nil {
		err = json.Unmarshal(text, &pkg)
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err = os.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	return pkg.OptionalDependencies, string(text)
}

// Every package that Binary may choose is pinned, all at one exact version, and the lock works with any registry.
func TestPinned(t *testing.T) {
	wanted, lock := manifest(t)
	version := wanted["opencode-linux-x64"]
	for _, arch := range []string{"amd64", "arm64"} {
		for _, avx2 := range []bool{true, false} {
			name, err := platformPackage(arch, avx2)
			if err != nil {
				t.Fatal(err)
			}
			if wanted[name] != version || strings.Trim(version, "0123456789.") != "" {
				t.Errorf("%s is wanted at %q, opencode-linux-x64 at %q; want one exact version", name, wanted[name], version)
			}
			if !strings.Contains(lock, `"node_modules/`+name+`"`) {
				t.Errorf("package-lock.json does not hold %s", name)
			}
		}
	}
	if strings.Contains(lock, "http") {
		t.Error("package-lock.json names a registry (npm install --omit-lockfile-registry-resolved leaves it out)")
	}
}
