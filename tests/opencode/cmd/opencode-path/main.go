// Command opencode-path prints the path of the opencode binary that the tests run. It is for scripts.
package main

import (
	"fmt"
	"os"

	"github.com/opencoded/opencoded/tests/opencode"
)

func main() {
	path, err := opencode.Binary()
	if err != nil {
		fmt.Fprintln(os.Stderr, "opencode-path:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}
