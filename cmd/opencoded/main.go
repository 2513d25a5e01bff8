// Command opencoded runs many isolated opencode servers on one host, as one
// reviewed file says. See README.md for what it does and ARCHITECTURE.md for how.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, os.Stdin)) }
