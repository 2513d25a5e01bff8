package main

import (
	"testing"

	"github.com/opencoded/opencoded/internal/lazy"
)

// TestExpressionsCompile: those of all packages, which the program compiles only
// when it needs them.
func TestExpressionsCompile(t *testing.T) {
	if len(lazy.All()) < 20 {
		t.Errorf("only %d expressions", len(lazy.All()))
	}
	for _, r := range lazy.All() {
		r.MatchString("")
	}
}
