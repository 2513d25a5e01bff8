package config

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
)

// Reader reads what layers lead to. Who asks decides what may be read: a person
// on the command line, or root, which reads only what others cannot change.
type Reader interface {
	// Read returns a file of at most MaxFile bytes.
	Read(path string) (Content, error)
	// List returns the regular files below a directory, relative to it, sorted.
	List(dir string) ([]string, error)
}

// Content is a file that was read.
type Content struct {
	Data       []byte
	Executable bool
}

// ErrUnseen is what a Reader returns for a file that it is not to look at. Load
// goes on without it, and says nothing of it.
var ErrUnseen = errors.New("not looked at")

// unseen reports whether an error says only that; otherwise it is a finding.
func (l *loader) unseen(err error) bool { return errors.Is(err, ErrUnseen) }

// Bounds of what a configuration may lead to, against a mistaken path.
const (
	MaxFile  = 64 << 20 // bytes of one file
	maxFiles = 2000     // files below one folder
)

// Bundle is everything that one configuration is made of, read and understood
// layer by layer, not yet merged.
type Bundle struct {
	layers    []layer
	documents []Markdown // agents, skills and commands in files of their own
	named     []naming   // how they came to be these
	files     []File     // to stand beside the configuration

	// LayersLast says that opencode reads what the layers say themselves after the
	// agents and commands in files, as it does where the configuration is locked.
	LayersLast bool

	mended []Fix           // heads of files that opencode would have to repair
	copied map[string]bool // references that lead to files

	incomplete bool // something could not be read: what refers to it is no mistake
}

// Empty reports whether the bundle says nothing at all.
func (b Bundle) Empty() bool {
	for _, l := range b.layers {
		if l.table.Len() > 0 {
			return false
		}
	}
	return len(b.documents) == 0
}

// File is a file that stands in the configuration directory.
type File struct {
	Path       string // relative to the directory, with slashes
	Content    []byte
	Executable bool
}

// Load reads layers, the earliest first, and all that they lead to. base is
// where the configuration directory will be when opencode reads it: an absolute
// path, or a reference that opencode fills in. References that are relative to a
// layer are rewritten to copies below it. An empty base copies nothing and
// rewrites such references to the originals.
func Load(r Reader, base string, sources ...Source) (Bundle, document.Diagnostics) {
	l := loader{reader: r, base: base, stems: stems{}, placed: map[string]bool{}}
	l.bundle.copied = map[string]bool{}
	for _, s := range sources {
		if read, ok := l.layer(s); ok {
			l.collect(read)
		} else {
			l.bundle.incomplete = true
		}
	}
	return l.bundle, l.problems
}

type loader struct {
	reader   Reader
	base     string
	stems    stems
	placed   map[string]bool // paths of the files in the bundle
	bundle   Bundle
	problems document.Diagnostics
}

func (l *loader) layer(s Source) (layer, bool) {
	if s.Table != nil {
		return layer{name: s.Name, dir: s.Dir, orig: cmp.Or(s.Original, s.Dir), stem: l.stems.take(s.Name), table: s.Table.Clone()}, true
	}
	content, err := l.reader.Read(s.Path)
	if l.unseen(err) || err != nil && s.Verbatim { // who uses a file as it is reads it too, and says what is wrong
		return layer{}, false
	}
	if err != nil {
		l.problems.Add(document.Error, orFile(s.Pos, s.Path), missingRemedy(err), "cannot read layer %s: %v", s.Path, cause(err))
		return layer{}, false
	}
	table, problems := ParseFile(s.Path, content.Data)
	l.problems.AddAll(problems)
	if table == nil {
		return layer{}, false
	}
	dir := filepath.Dir(s.Path)
	return layer{name: s.Path, dir: dir, orig: cmp.Or(s.Original, dir), stem: l.stems.take(s.Path), tui: IsTUI(s.Path), table: table, verbatim: s.Verbatim}, true
}

// orFile is a place, or where there is none the file itself.
func orFile(pos document.Pos, path string) document.Pos {
	if pos.File == "" {
		return document.Pos{File: path}
	}
	return pos
}

// cause leaves out what the message says already: operation and path.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func missingRemedy(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "a path is relative to the file that names it"
	}
	return ""
}

// collect takes a layer apart and reads what it leads to.
func (l *loader) collect(read layer) {
	if read.verbatim {
		l.misplaced(read)
		l.bundle.layers = append(l.bundle.layers, read)
		return
	}
	if !read.tui {
		respell(read.table, &l.problems)
		l.named(read)
	}
	l.references(read)
	l.nulls(read)
	l.bundle.layers = append(l.bundle.layers, read.split(&l.problems)...)
}

// nulls finds those that take nothing away: in a single file they are a mistake,
// since opencode itself refuses null everywhere.
func (l *loader) nulls(read layer) {
	walk(&document.Value{Data: read.table}, nil, func(v *document.Value, path []string) {
		if _, isNull := v.Data.(document.Null); !isNull || len(path) == 0 {
			return
		}
		for _, before := range l.bundle.layers {
			if mention(before.table, path) != nil {
				return
			}
		}
		l.problems.Add(document.Warning, v.Pos, "leave it out; opencode itself refuses null", "%s: null takes nothing away here", document.Join(path...))
	})
}

// named reads the agents, commands and skills that a layer gives as paths:
// agents.NAME = "reviewer.md". The keys are opencoded's own, so they leave the
// layer.
func (l *loader) named(read layer) {
	for _, k := range kinds {
		e, ok := read.table.Entry(k.key)
		if !ok || e.Value.Table() == nil {
			continue
		}
		for _, entry := range taken(e.Value.Table(), k) {
			l.document(read, k, entry)
		}
		if e.Value.Table().Len() == 0 {
			read.table.Delete(k.key)
		}
	}
}

// taken removes and returns the entries that name files.
func taken(t *document.Table, k *kind) []document.Entry {
	var out []document.Entry
	for e := range t.All() {
		if slices.Contains(k.taken, e.Key) {
			continue
		}
		_, isPath := e.Value.Text()
		_, gone := e.Value.Data.(document.Null)
		if isPath || gone || k.inline && e.Value.Table() != nil && e.Value.Table().Get("instructions") != nil {
			out = append(out, e)
		}
	}
	for _, e := range out {
		t.Delete(e.Key)
	}
	return out
}

// file is a path of a layer as it is read, and as messages call it.
func (l layer) file(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(l.dir, path)
}

// original is a path of a layer as opencode finds it where nothing is copied.
func (l layer) original(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(l.orig, path)
}

// place puts a file beside the configuration, once, and returns how it is
// referred to there.
func (l *loader) place(path string, c Content) string {
	if !l.placed[path] {
		l.placed[path] = true
		l.bundle.files = append(l.bundle.files, File{Path: path, Content: c.Data, Executable: c.Executable})
	}
	return l.base + "/" + path
}

// beside is where a copy of a layer's file stands: as it does beside the layer,
// "up" for each step out of its directory.
func (l layer) beside(path string) string {
	rel, err := filepath.Rel(l.dir, l.file(path))
	if err != nil {
		rel = filepath.Base(path)
	}
	return "files/" + l.stem + "/" + strings.ReplaceAll(filepath.ToSlash(rel), "..", "up")
}
