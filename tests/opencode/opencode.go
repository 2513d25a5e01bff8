// Package opencode finds the real opencode binary that tests and the demonstration run.
//
// Its version is pinned by package.json and package-lock.json beside this file; "npm ci" there, which scripts/prepare
// does, brings it. What npm calls opencode-ai is a launcher that picks one of several platform packages when its
// install script runs. These packages, each one self-contained program, are pinned directly instead: no install
// script has to run, and the choice is made here, on the machine that runs it.
package opencode

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/cpu"
)

// Binary returns the absolute path of the opencode program for this machine. It works anywhere in the checkout.
func Binary() (string, error) {
	name, err := platformPackage(runtime.GOARCH, cpu.X86.HasAVX2)
	if err != nil {
		return "", err
	}
	dir, err := directory()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "node_modules", name, "bin", "opencode")
	if st, err := os.Stat(path); err != nil || st.Mode()&0o111 == 0 {
		return "", fmt.Errorf("cannot find the opencode binary at %s (run scripts/prepare, or npm ci in %s)", path, dir)
	}
	return path, nil
}

// platformPackage chooses as opencode's own launcher does: the plain x64 build needs AVX2 and dies of SIGILL without.
func platformPackage(arch string, avx2 bool) (string, error) {
	switch {
	case arch == "arm64":
		return "opencode-linux-arm64", nil
	case arch == "amd64" && avx2:
		return "opencode-linux-x64", nil
	case arch == "amd64":
		return "opencode-linux-x64-baseline", nil
	}
	return "", fmt.Errorf("cannot choose an opencode binary: none is built for %s (amd64 or arm64 is needed)", arch)
}

// directory is tests/opencode, looked for from the working directory upwards: a test runs in its package's, and a
// path compiled in would be wrong in a binary built with -trimpath.
func directory() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		candidate := filepath.Join(dir, "tests", "opencode")
		if _, err := os.Stat(filepath.Join(candidate, "package-lock.json")); err == nil {
			return candidate, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("cannot find tests/opencode above the working directory (run it in the checkout)")
		}
		dir = parent
	}
}
