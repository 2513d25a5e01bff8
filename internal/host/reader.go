package host

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/opencoded/opencoded/internal/config"
)

// Reader reads what configurations lead to (config.Reader).
type Reader struct {
	// Trusted refuses what others than root could change: root decides by it.
	Trusted bool
	// Within, if not empty, is the one directory below which anything is looked at.
	Within string
}

var _ config.Reader = Reader{}

// Read returns a regular file of at most config.MaxFile bytes.
func (r Reader) Read(path string) (config.Content, error) {
	if err := r.allowed(path); err != nil {
		return config.Content{}, err
	}
	// Without O_NONBLOCK a pipe in the place of a file would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return config.Content{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return config.Content{}, err
	case info.IsDir():
		return config.Content{}, errors.New("is a directory")
	case !info.Mode().IsRegular():
		return config.Content{}, errors.New("is not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, config.MaxFile+1))
	if err == nil && len(data) > config.MaxFile {
		err = fmt.Errorf("is larger than %d MiB", config.MaxFile>>20)
	}
	return config.Content{Data: data, Executable: info.Mode().Perm()&0o111 != 0}, err
}

// List returns the regular files below a directory, relative to it, sorted.
// Directories that version control and package managers keep are left out.
func (r Reader) List(dir string) ([]string, error) {
	if err := r.allowed(dir); err != nil {
		return nil, err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, errors.Join(err, notDirectory(err))
	}
	var out []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && path != dir && slices.Contains([]string{".git", "node_modules"}, e.Name()):
			return filepath.SkipDir
		case e.IsDir():
			return nil
		case e.Type()&fs.ModeSymlink != 0:
			if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
				return nil
			}
		case !e.Type().IsRegular():
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		out = append(out, rel)
		return err
	})
	slices.Sort(out)
	return out, err
}

func notDirectory(err error) error {
	if err == nil {
		return errors.New("is not a directory")
	}
	return nil
}

func (r Reader) allowed(path string) error {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if r.Within != "" && !under(absolute, r.Within) {
		return config.ErrUnseen
	}
	if r.Trusted {
		return trusted(absolute)
	}
	return nil
}
