//go:build ignore

package main

import (
	"fmt"
	"os"

	"github.com/opencoded/opencoded/internal/nixoptions"
)

func main() {
	text, err := nixoptions.Schema()
	if err == nil {
		err = os.WriteFile(os.Args[1], text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
