//go:build generate

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// With the tag generate the program writes its man pages and shell completions instead of anything else:
//
//	go run -tags generate ./cmd/opencoded DIRECTORY
//
// The date on the pages is that of SOURCE_DATE_EPOCH.
func init() {
	if err := generate(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func generate(dir string) error {
	root := (&app{}).root()
	root.DisableAutoGenTag = true
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH is not a number of seconds: %w", err)
	}
	date := time.Unix(epoch, 0).UTC()
	man := filepath.Join(dir, "man")
	if err := os.MkdirAll(man, 0o755); err != nil {
		return err
	}
	hideFromManual(root)
	if err := doc.GenManTree(root, &doc.GenManHeader{Section: "8", Date: &date, Source: "opencoded", Manual: "opencoded"}, man); err != nil {
		return err
	}
	for name, write := range map[string]func(string) error{
		"opencoded.bash": func(path string) error { return root.GenBashCompletionFileV2(path, true) },
		"_opencoded":     root.GenZshCompletionFile,
		"opencoded.fish": func(path string) error { return root.GenFishCompletionFile(path, true) },
	} {
		if err := write(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// hideFromManual leaves out flags that every page would repeat.
func hideFromManual(c *cobra.Command) {
	c.InitDefaultHelpFlag()
	if f := c.Flags().Lookup("help"); f != nil {
		f.Hidden = true
	}
	for _, sub := range c.Commands() {
		hideFromManual(sub)
	}
}
