// Package tree writes files for whoever runs opencoded: into a directory, or into
// an archive that is the same, bit by bit, for the same files. What the files
// hold is decided elsewhere. What root keeps for instances is written by
// internal/host, which trusts no directory that others can change.
package tree

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
)

// File is one regular file.
type File struct {
	Path    string // relative, with slashes
	Mode    fs.FileMode
	Content []byte
	Source  string // not empty: the content is that of this file
}

func (f File) open() (io.ReadCloser, int64, error) {
	if f.Source == "" {
		return io.NopCloser(bytes.NewReader(f.Content)), int64(len(f.Content)), nil
	}
	in, err := os.Open(f.Source)
	if err != nil {
		return nil, 0, err
	}
	info, err := in.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.Source)
	}
	if err != nil {
		return nil, 0, errors.Join(err, in.Close())
	}
	return in, info.Size(), nil
}

// Write puts the files below a directory, each of them whole or not at all, and
// returns their paths. Other files there are left alone.
func Write(dir string, files []File) ([]string, error) {
	var written []string
	for _, f := range files {
		target := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := writeFile(target, f); err != nil {
			return written, fmt.Errorf("cannot write %s: %w", target, err)
		}
		written = append(written, target)
	}
	return written, nil
}

func writeFile(target string, f File) (err error) {
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	in, _, err := f.open()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(target), ".opencoded-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(out.Name())
		}
	}()
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Chmod(f.Mode), out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), target)
}

// Replace gives an existing file new content, whole or not at all. Mode and
// owner stay; a symbolic link is followed.
func Replace(name string, content []byte) error {
	resolved, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return err
	}
	if err := writeFile(resolved, File{Mode: info.Mode().Perm(), Content: content}); err != nil {
		return err
	}
	return keepOwner(resolved, info)
}

// Archive writes the files as a tar archive, compressed with Zstandard, below one
// directory. Times, owners and order are fixed: the same files give the same bits.
func Archive(w io.Writer, root string, files []File) error {
	compressed, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	out := tar.NewWriter(compressed)
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	made := map[string]bool{}
	for _, f := range files {
		name := path.Join(root, f.Path)
		if err := directories(out, name, made); err != nil {
			return err
		}
		if err := addFile(out, name, f); err != nil {
			return fmt.Errorf("cannot archive %s: %w", f.Path, err)
		}
	}
	return errors.Join(out.Close(), compressed.Close())
}

func directories(out *tar.Writer, name string, made map[string]bool) error {
	dir := path.Dir(name)
	if dir == "." || made[dir] {
		return nil
	}
	if err := directories(out, dir, made); err != nil {
		return err
	}
	made[dir] = true
	return out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: epoch, Format: tar.FormatPAX})
}

// epoch is the time of everything in an archive: the first that tar and zip know.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

func addFile(out *tar.Writer, name string, f File) error {
	in, size, err := f.open()
	if err != nil {
		return err
	}
	defer in.Close()
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(f.Mode.Perm()), Size: size, ModTime: epoch, Format: tar.FormatPAX}
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return err
}
