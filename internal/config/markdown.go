package config

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/lazy"
)

// Markdown is an agent, a command or a skill that stands in a file of its own.
type Markdown struct {
	kind *kind
	Name string
	Pos  document.Pos // where it is named
	head *document.Table
	body string
	file string       // which file it was read from
	text document.Pos // where the body stands
}

// naming is what a layer does to an agent, a skill or a command in a file: it puts
// one in, in the place of another, or takes it away.
type naming struct {
	layer int // its index in the bundle
	kind  *kind
	name  string
	pos   document.Pos
	file  *Markdown // nil: taken away
}

// kind is what tells agents, commands and skills apart.
type kind struct {
	key    string // the key that names the files: agents.NAME = "…"
	noun   string
	under  string   // the table of opencode.json that says the same; "" for none
	text   string   // the key of that table which the body of the file is
	inline bool     // a table of keys is understood too, and becomes a file
	taken  []string // keys of opencode's own, which name no file
}

var (
	agentKind   = &kind{key: "agents", noun: "agent", under: "agent", text: "prompt"}
	commandKind = &kind{key: "commands", noun: "command", under: "command", text: "template"}
	skillKind   = &kind{key: "skills", noun: "skill", inline: true, taken: []string{"paths", "urls"}}
	kinds       = []*kind{agentKind, commandKind, skillKind}
)

// nameRules are the names that opencode finds again: an agent's may have folders.
var nameRules = map[*kind]*lazy.Regexp{
	agentKind:   lazy.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$`),
	commandKind: lazy.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$`),
	skillKind:   lazy.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`),
}

func (l *loader) document(read layer, k *kind, e document.Entry) {
	if _, gone := e.Value.Data.(document.Null); gone {
		l.drop(k, e)
		return
	}
	if !nameRules[k].MatchString(e.Key) || len(e.Key) > 64 {
		hint := "use letters, digits, and - or _ within"
		if k == skillKind {
			hint = "use up to 64 lower-case letters and digits, with single hyphens between"
		}
		l.problems.Add(document.Error, e.KeyPos, hint, "%q cannot be the name of %s", e.Key, article(k.noun))
		return
	}
	target, isPath := e.Value.Text()
	if !isPath {
		l.inlineSkill(e)
		return
	}
	if k == skillKind {
		l.skill(read, e, target)
		return
	}
	file := read.file(target)
	c, err := l.reader.Read(file)
	if l.unseen(err) { // its name is known all the same
		l.bundle.documents = append(l.bundle.documents, Markdown{kind: k, Name: e.Key, Pos: e.KeyPos, head: &document.Table{}, body: "…", file: file})
		return
	}
	if err != nil {
		l.bundle.incomplete = true
		l.problems.Add(document.Error, e.Value.Pos, missingRemedy(err), "cannot read %s %s: %v", k.noun, target, cause(err))
		return
	}
	l.markdown(k, e, file, c, k.key+"/"+e.Key+".md")
}

// skill reads a folder with a SKILL.md, which may be named itself.
func (l *loader) skill(read layer, e document.Entry, target string) {
	dir := read.file(target)
	if filepath.Base(dir) == "SKILL.md" {
		dir = filepath.Dir(dir)
	}
	names, err := l.reader.List(dir)
	if l.unseen(err) {
		return
	}
	if err != nil || len(names) > maxFiles {
		if err == nil {
			err = fmt.Errorf("more than %d files", maxFiles)
		}
		l.problems.Add(document.Error, e.Value.Pos, missingRemedy(err), "cannot read skill %s: %v", target, cause(err))
		return
	}
	found := false
	for _, name := range names {
		c, err := l.reader.Read(filepath.Join(dir, name))
		if err != nil {
			l.problems.Add(document.Error, e.Value.Pos, "", "cannot read %s of skill %s: %v", name, e.Key, cause(err))
			continue
		}
		to := "skills/" + e.Key + "/" + filepath.ToSlash(name)
		if name == "SKILL.md" {
			found = true
			l.markdown(skillKind, e, filepath.Join(dir, name), c, to)
			continue
		}
		l.replace(to, c)
	}
	if !found {
		l.problems.Add(document.Error, e.Value.Pos, "a skill is a folder with a SKILL.md", "there is no SKILL.md in %s", target)
	}
}

// inlineSkill writes the SKILL.md of a skill that stands in the layer itself:
// skills.NAME = { description = "…", instructions = "…" }.
func (l *loader) inlineSkill(e document.Entry) {
	t := e.Value.Table()
	body, isText := t.Get("instructions").Text()
	description, described := t.Get("description").Text()
	if !isText || !described {
		l.problems.Add(document.Error, e.Value.Pos, `write { description = "…", instructions = "…" }, or the path of a folder with a SKILL.md`,
			"skill %s needs a description and instructions", e.Key)
		return
	}
	for other := range t.All() {
		if other.Key != "description" && other.Key != "instructions" {
			l.problems.Add(document.Error, other.KeyPos, "it knows description and instructions", "unknown key %q in %s", other.Key, document.Join("skills", e.Key))
		}
	}
	head := &document.Table{}
	set(head, "name", e.Key)
	set(head, "description", description)
	text := "---\nname: " + quoted(e.Key) + "\ndescription: " + quoted(description) + "\n---\n\n" + strings.TrimSpace(body) + "\n"
	l.add(Markdown{kind: skillKind, Name: e.Key, Pos: e.KeyPos, head: head, body: body, file: e.KeyPos.File},
		"skills/"+e.Key+"/SKILL.md", Content{Data: []byte(text)})
}

func (l *loader) markdown(k *kind, e document.Entry, file string, c Content, to string) {
	m, problems := document.ParseMarkdown(file, c.Data)
	l.problems.AddAll(problems)
	if len(problems.Errors()) > 0 {
		l.bundle.incomplete = true
		return
	}
	doc := Markdown{kind: k, Name: e.Key, Pos: e.KeyPos, head: m.Head, body: strings.TrimSpace(m.Body), file: file, text: m.BodyPos}
	l.checkHead(doc, m)
	if m.Mended != "" {
		c.Data = []byte(m.Mended)
		if m.Meant {
			l.bundle.mended = append(l.bundle.mended, Fix{Pos: document.Pos{File: file}, Whole: c.Data})
		}
	}
	l.add(doc, to, c)
}

func (l *loader) record(k *kind, name string, pos document.Pos, file *Markdown) {
	l.bundle.named = append(l.bundle.named, naming{len(l.bundle.layers), k, name, pos, file})
}

// add puts a document in, in the place of one of the same name.
func (l *loader) add(m Markdown, to string, c Content) {
	l.record(m.kind, m.Name, m.Pos, &m)
	for i, other := range l.bundle.documents {
		if other.kind == m.kind && other.Name == m.Name {
			l.problems.Add(document.Warning, m.Pos, "give one of them another name, or take the earlier out",
				"%s %s replaces the one that is named at %s", m.kind.noun, m.Name, other.Pos)
			l.bundle.documents[i] = m
			l.replace(to, c)
			return
		}
	}
	l.bundle.documents = append(l.bundle.documents, m)
	l.replace(to, c)
}

// drop takes out what earlier layers named.
func (l *loader) drop(k *kind, e document.Entry) {
	name := e.Key
	l.record(k, name, e.KeyPos, nil)
	var documents []Markdown
	for _, m := range l.bundle.documents {
		if m.kind != k || m.Name != name {
			documents = append(documents, m)
		}
	}
	l.bundle.documents = documents
	var files []File
	for _, f := range l.bundle.files {
		if f.Path != k.key+"/"+name+".md" && !strings.HasPrefix(f.Path, k.key+"/"+name+"/") {
			files = append(files, f)
			continue
		}
		delete(l.placed, f.Path)
	}
	l.bundle.files = files
}

func (l *loader) replace(to string, c Content) {
	for i, f := range l.bundle.files {
		if f.Path == to {
			l.bundle.files[i] = File{Path: to, Content: c.Data, Executable: c.Executable}
			return
		}
	}
	l.place(to, c)
}

// checkHead finds what opencode would skip without a word.
func (l *loader) checkHead(d Markdown, m document.Markdown) {
	walk(&document.Value{Data: d.head}, nil, func(v *document.Value, path []string) {
		if text, _ := v.Text(); reference(text) {
			l.problems.Add(document.Warning, v.Pos, "set it in a layer, as "+document.Join(append([]string{cmp.Or(d.kind.under, d.kind.key), d.Name}, path...)...),
				"opencode does not fill in %s in a markdown file", text)
		}
	})
	top := document.Pos{File: d.file, Line: 1, Column: 1}
	switch d.kind {
	case skillKind:
		l.skillHead(d, top)
	default:
		if v := d.head.Get(d.kind.text); v != nil {
			l.problems.Add(document.Error, v.Pos, "write it below the head", "the %s of %s is the text of the file", d.kind.text, article(d.kind.noun))
		}
		if d.body == "" {
			l.problems.Add(document.Warning, m.BodyPos, "write below the head what it shall do", "%s %s has no text", d.kind.noun, d.Name)
		}
		if v, ok := d.head.Get("name").Text(); ok && v != path.Base(d.Name) && v != d.Name {
			l.problems.Add(document.Warning, d.head.Get("name").Pos, "leave name out", "%s is known as %s, after the inventory or layer that names it, not as %q",
				article(d.kind.noun), d.Name, v)
		}
	}
}

func (l *loader) skillHead(d Markdown, top document.Pos) {
	name, ok := d.head.Get("name").Text()
	switch {
	case !ok:
		l.problems.Add(document.Error, top, "write name: "+d.Name+" in the head", "skill %s has no name, and opencode would skip it", d.Name)
	case name != d.Name:
		l.problems.Add(document.Error, d.head.Get("name").Pos, "use one name for both", "the skill calls itself %q, and is named %q", name, d.Name)
	}
	if text, ok := d.head.Get("description").Text(); !ok || strings.TrimSpace(text) == "" {
		l.problems.Add(document.Error, top, "say in one sentence when it is to be used", "skill %s has no description, by which an agent would find it", d.Name)
	}
	for e := range d.head.All() {
		switch e.Key {
		case "name", "description", "license", "compatibility", "metadata", "allowed-tools":
		default:
			l.problems.Add(document.Warning, e.KeyPos, "it knows name, description, license, compatibility and metadata", "opencode ignores the key %q of a skill", e.Key)
		}
	}
}

// table is a document as opencode.json would say the same.
func (m Markdown) table() *document.Table {
	out := m.head.Clone()
	out.Delete("name")
	at := cmp.Or(m.text, m.Pos)
	out.Set(document.Entry{Key: m.kind.text, KeyPos: at, Value: &document.Value{Pos: at, Data: m.body}})
	return out
}

func article(noun string) string {
	if strings.ContainsRune("aeiou", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}
