package config

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/lazy"
)

// fileReference is {file:PATH} as opencode recognises it.
var fileReference = lazy.MustCompile(`\{file:([^}]+)\}`)

// references rewrites what is relative to a layer: opencode itself would resolve
// it beside whichever file it happens to read, and not beside the layer. That is
// {file:…} in any string, and plugins, folders of skills and instructions that
// begin with "./" or "../". Everything else passes through as it stands.
func (l *loader) references(read layer) {
	walk(&document.Value{Data: read.table}, nil, func(v *document.Value, path []string) {
		text, ok := v.Text()
		if !ok {
			return
		}
		if strings.Contains(text, "{file:") {
			v.Data = fileReference.ReplaceAllStringFunc(text, func(m string) string { return l.fileReference(read, v.Pos, m) })
			return
		}
		if !strings.HasPrefix(text, "./") && !strings.HasPrefix(text, "../") {
			return
		}
		switch role(path) {
		case "plugin":
			v.Data = l.plugin(read, v.Pos, text)
		case "skills.paths":
			v.Data = l.folder(read, v.Pos, text)
		case "instructions":
			v.Data = l.instructions(read, v.Pos, text)
		}
	})
}

// FileReference is a file of the host that opencode reads when it starts, for a
// {file:…} in a layer. Without it opencode refuses the whole configuration.
type FileReference struct {
	Path string // absolute
	Pos  document.Pos
}

// FileReferences lists the files that layers refer to by absolute paths; what was
// copied is not among them.
func (b Bundle) FileReferences() []FileReference {
	var out []FileReference
	for _, l := range b.layers {
		walk(&document.Value{Data: l.table}, nil, func(v *document.Value, _ []string) {
			text, _ := v.Text()
			for _, m := range fileReference.FindAllStringSubmatch(text, -1) {
				if filepath.IsAbs(m[1]) && !b.copied[m[1]] {
					out = append(out, FileReference{m[1], v.Pos})
				}
			}
		})
	}
	return out
}

// misplaced finds references in a file that is used in another place than it
// stands, where opencode would look for them beside the wrong file.
func (l *loader) misplaced(read layer) {
	walk(&document.Value{Data: read.table}, nil, func(v *document.Value, path []string) {
		text, _ := v.Text()
		for _, m := range fileReference.FindAllStringSubmatch(text, -1) {
			if !filepath.IsAbs(m[1]) && !strings.HasPrefix(m[1], "~") && !strings.Contains(m[1], "{") {
				l.problems.Add(document.Error, v.Pos, "name the file in config_layers instead of config_file, or write an absolute path",
					"%s: %s is relative, and opencode reads the file in another place", document.Join(path...), m[0])
			}
		}
	})
}

// role is the key of a list whose elements are paths, for the path of an
// element; lists may be written with $append or $replace, and a plugin may be a
// pair of its name and its options.
func role(path []string) string {
	keys := slices.DeleteFunc(slices.Clone(path), func(key string) bool {
		_, err := strconv.Atoi(key)
		return err == nil || key == "$append" || key == "$replace"
	})
	return strings.Join(keys, ".")
}

// walk visits every value with its path; "0", "1", … for elements of lists. A
// path is good until visit returns.
func walk(v *document.Value, path []string, visit func(*document.Value, []string)) {
	visit(v, path)
	for e := range v.Table().All() {
		walk(e.Value, append(path, e.Key), visit)
	}
	list, _ := v.List()
	for i, e := range list {
		walk(e, append(path, strconv.Itoa(i)), visit)
	}
}

func (l *loader) fileReference(read layer, pos document.Pos, whole string) string {
	target := fileReference.FindStringSubmatch(whole)[1]
	if filepath.IsAbs(target) || strings.HasPrefix(target, "~") || strings.Contains(target, "{") {
		return whole
	}
	c, err := l.reader.Read(read.file(target))
	if err != nil {
		if !l.unseen(err) {
			l.problems.Add(document.Error, pos, missingRemedy(err), "cannot read %s: %v", whole, cause(err))
		}
		return whole
	}
	if l.base == "" {
		return "{file:" + read.original(target) + "}"
	}
	copied := l.place(read.beside(target), c)
	l.bundle.copied[copied] = true
	return "{file:" + copied + "}"
}

// plugin copies a plugin; one in a folder of its own comes with the folder,
// since it may import what stands beside it.
func (l *loader) plugin(read layer, pos document.Pos, target string) string {
	if l.base == "" {
		return "file://" + read.original(target)
	}
	dir := path.Dir(path.Clean(target))
	if path.Ext(target) == "" {
		return "file://" + l.folder(read, pos, target)
	}
	if dir != "." && dir != ".." {
		l.folder(read, pos, dir)
	}
	c, err := l.reader.Read(read.file(target))
	if l.unseen(err) {
		return target
	}
	if err != nil {
		l.problems.Add(document.Error, pos, missingRemedy(err), "cannot read plugin %s: %v", target, cause(err))
		return target
	}
	return "file://" + l.place(read.beside(target), c)
}

// folder copies a directory with all that is in it.
func (l *loader) folder(read layer, pos document.Pos, target string) string {
	if l.base == "" {
		return read.original(target)
	}
	dir := read.file(target)
	names, err := l.reader.List(dir)
	if l.unseen(err) {
		return target
	}
	if err == nil && len(names) > maxFiles {
		err = fmt.Errorf("more than %d files", maxFiles)
	}
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("the folder is empty")
	}
	if err != nil {
		l.problems.Add(document.Error, pos, missingRemedy(err), "cannot read folder %s: %v", target, cause(err))
		return target
	}
	for _, name := range names {
		c, err := l.reader.Read(filepath.Join(dir, name))
		if err != nil {
			l.problems.Add(document.Error, pos, "", "cannot read %s: %v", path.Join(target, name), cause(err))
			continue
		}
		l.place(read.beside(path.Join(target, name)), c)
	}
	return l.base + "/" + read.beside(target)
}

// instructions copies a file, or all that a pattern of names matches.
func (l *loader) instructions(read layer, pos document.Pos, target string) string {
	if l.base == "" {
		return read.original(target)
	}
	dir, pattern := path.Split(target)
	if !strings.ContainsAny(pattern, "*?[{") {
		c, err := l.reader.Read(read.file(target))
		if l.unseen(err) {
			return target
		}
		if err != nil {
			l.problems.Add(document.Error, pos, missingRemedy(err), "cannot read instructions %s: %v", target, cause(err))
			return target
		}
		return l.place(read.beside(target), c)
	}
	names, err := l.reader.List(read.file(dir))
	matched := 0
	for _, name := range names {
		if ok, _ := path.Match(pattern, name); !ok {
			continue
		}
		var c Content
		if c, err = l.reader.Read(filepath.Join(read.file(dir), name)); err != nil {
			break
		}
		matched++
		l.place(read.beside(path.Join(dir, name)), c)
	}
	switch {
	case l.unseen(err):
		return target
	case err != nil:
		l.problems.Add(document.Error, pos, missingRemedy(err), "cannot read instructions %s: %v", target, cause(err))
	case matched == 0:
		l.problems.Add(document.Warning, pos, "a pattern is relative to the file that names it", "no file matches %s", target)
	}
	return l.base + "/" + path.Join(path.Dir(read.beside(path.Join(dir, "x"))), pattern)
}
