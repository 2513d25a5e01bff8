package host

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/plan"
)

// ReadInventory reads and validates an inventory, without a look at the host. With an error among the findings there
// is no inventory.
func ReadInventory(path string) (*instance.Inventory, document.Diagnostics, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	data, err := os.ReadFile(absolute)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, noInventory(absolute)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the inventory: %w", err)
	}
	// Findings name the file as the user did; what root trusts is the whole path.
	inv, problems := instance.Parse(path, data)
	if inv != nil {
		inv.File = absolute
	}
	return inv, problems, nil
}

// noInventory is an error that is fs.ErrNotExist.
type noInventory string

func (path noInventory) Error() string   { return "there is no inventory at " + string(path) }
func (noInventory) Is(target error) bool { return target == fs.ErrNotExist }

// Sources are the files and directories that decide what an inventory means, itself included: layers and what they
// name, environment files, secrets, programs. Absent ones are among them.
func Sources(inv *instance.Inventory) []string {
	r := &recorder{Reader: Reader{}, seen: map[string]bool{inv.File: true}}
	plan.Configurations(inv, r)
	for _, i := range inv.Instances {
		for _, f := range i.EnvironmentFiles {
			r.add(f.Path)
		}
		for _, c := range i.Credentials {
			r.add(c.Path)
		}
		for _, path := range []string{i.ConfigFile, i.Opencode} {
			if path != "" {
				r.add(path)
			}
		}
		if b, err := findBinary(i.Opencode); err == nil {
			r.add(b.Resolved) // what a link leads to may be replaced as well
		}
	}
	return slices.Sorted(maps.Keys(r.seen))
}

// recorder notes what is read.
type recorder struct {
	Reader
	seen map[string]bool
}

var _ config.Reader = (*recorder)(nil)

func (r *recorder) add(path string) {
	r.seen[path] = true
}

func (r *recorder) Read(path string) (config.Content, error) {
	r.add(path)
	return r.Reader.Read(path)
}

func (r *recorder) List(dir string) ([]string, error) {
	r.add(dir)
	return r.Reader.List(dir)
}
