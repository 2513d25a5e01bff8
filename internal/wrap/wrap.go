// Package wrap bakes a composed configuration into a program of its own: a
// directory that can stand anywhere, with an executable that runs opencode with
// that configuration, agents and skills, and with nothing of the user's or the
// project's own.
//
// It decides what stands in the directory. What the configuration says is
// internal/config's, and writing is internal/tree's.
package wrap

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/lazy"
	"github.com/opencoded/opencoded/internal/schema"
	"github.com/opencoded/opencoded/internal/tree"
)

// What the script says of itself in the environment, for references in the
// configuration.
const (
	// Base is where the configuration is when the program runs.
	Base = "{env:OPENCODED_WRAP}"
	// Project is the root of the project in which it runs.
	Project = "{env:OPENCODED_PROJECT}"
)

// Input is what a program is made of.
type Input struct {
	Name          string        // of the executable
	Output        config.Output // composed for Base, and for Project unless ProjectConfig
	Opencode      string        // absolute path of opencode; "" means the one in PATH when it runs
	Embed         bool          // opencode becomes part of the directory
	ProjectConfig bool          // a project may add to the configuration and override it
}

// nameRule is a file name that needs no quoting anywhere.
var nameRule = lazy.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// CheckName says why a program cannot have a name; nil means that it can.
func CheckName(name string) error {
	if !nameRule.MatchString(name) {
		return fmt.Errorf("%q cannot be the name of the program (use up to 63 letters, digits, . _ and -)", name)
	}
	if name == "opencode" {
		return fmt.Errorf("a program of the name opencode would find itself in PATH (choose another)")
	}
	return nil
}

// maxContent is up to where a configuration fits into one environment variable:
// Linux takes 128 KiB (MAX_ARG_STRLEN), of which opencode's references may grow.
const maxContent = 96 << 10

//go:embed wrap.sh
var script string

// Marker is a file by which a wrapped directory is known.
const Marker = "share/opencoded-wrap"

// Tree lists the files of the directory.
func Tree(in Input) []tree.File {
	shared := path.Join("share", in.Name)
	add := func(files []tree.File, name string, content []byte) []tree.File {
		return append(files, tree.File{Path: path.Join(shared, name), Mode: 0o644, Content: content})
	}
	files := add(nil, schema.ConfigFile, in.Output.Config)
	// Without it opencode tries to write one, and a read-only place would stop it.
	files = add(files, ".gitignore", []byte("*\n"))
	if in.Output.TUI != nil {
		files = add(files, schema.TUIFile, in.Output.TUI)
	}
	for _, f := range in.Output.Files {
		files = add(files, f.Path, f.Content)
		if f.Executable {
			files[len(files)-1].Mode = 0o755
		}
	}
	program := quote(in.Opencode)
	if in.Embed {
		inside := path.Join("libexec", in.Name, "opencode")
		program = quote(inside)
		files = append(files, tree.File{Path: inside, Mode: 0o755, Source: in.Opencode})
	}
	build := identity(files)
	text := strings.NewReplacer(
		"@NAME@", in.Name, "@BUILD@", build, "@OPENCODE@", program,
		"@LOCKED@", yes(!in.ProjectConfig), "@CONTENT@", yes(len(in.Output.Config) <= maxContent),
	).Replace(script)
	return append(files,
		tree.File{Path: path.Join("bin", in.Name), Mode: 0o755, Content: []byte(text)},
		tree.File{Path: Marker, Mode: 0o644, Content: []byte(in.Name + " " + build + "\n")},
	)
}

// identity names the configuration by its content, so that two builds of one
// name do not share what they link.
func identity(files []tree.File) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%s %o %d\n", f.Path, f.Mode&fs.ModePerm, len(f.Content))
		h.Write(f.Content)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// quote makes text one word of a shell script.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
