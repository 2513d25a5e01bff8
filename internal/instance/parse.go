package instance

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/lazy"
)

// Parse reads an inventory. All findings of the file come back at once, sorted
// by place; the inventory is nil when one of them is an error.
func Parse(file string, data []byte) (*Inventory, document.Diagnostics) {
	root, problems := document.ParseTOML(file, data)
	if len(problems) > 0 {
		return nil, problems
	}
	p := &parser{file: file, problems: &problems}
	inv := p.inventory(root)
	checkInventory(inv, &problems)
	problems.Sort()
	if len(problems.Errors()) > 0 {
		return nil, problems
	}
	return inv, problems
}

// parser carries what reading one file needs.
type parser struct {
	file        string
	problems    *document.Diagnostics
	hasDefaults map[document.Pos]bool // places inside [defaults]
}

var rootKeys = []string{"version", "host", "defaults", "instances"}

func (p *parser) inventory(root *document.Table) *Inventory {
	for e := range root.All() {
		if !slices.Contains(rootKeys, e.Key) {
			p.unknown(e, "the inventory", rootKeys)
		}
	}
	p.version(root)
	inv := &Inventory{Name: p.file, File: p.file, Host: Host{StateRoot: StateRoot, UnitDir: UnitDir, EgressLayout: "auto", AutoApply: true}}
	if t := p.table(root, "host"); t != nil {
		read(p, "host", hostKeys, &inv.Host, t)
	}
	defaults := p.table(root, "defaults")
	if defaults == nil {
		defaults = &document.Table{}
	}
	p.aliases("defaults", defaults)
	p.hasDefaults = places(defaults)
	// Read once by themselves, so that a mistake shows even if nothing inherits it.
	read(p, "defaults", instanceKeys, newInstance("defaults", document.Pos{}), defaults)

	for e := range p.table(root, "instances").All() {
		if i := p.instance(e, defaults, &inv.Host); i != nil {
			inv.Instances = append(inv.Instances, i)
		}
	}
	slices.SortFunc(inv.Instances, func(a, b *Instance) int { return strings.Compare(a.Name, b.Name) })
	return inv
}

func (p *parser) version(root *document.Table) {
	v := root.Get("version")
	switch {
	case v == nil:
		p.problems.Add(document.Error, document.Pos{File: p.file, Line: 1, Column: 1},
			`write "version = 1" at the top of the file`, "version is missing")
	case v.Data != int64(1):
		p.problems.Add(document.Error, v.Pos, "this opencoded reads version 1", "version is not one that is known")
	}
}

// NamePattern is what the name of an instance looks like: it keeps the user name
// within 31 characters and the unit name free of anything that systemd would
// escape.
const NamePattern = `^([a-z][a-z0-9-]{0,20}[a-z0-9]|[a-z])$`

var nameRule = lazy.MustCompile(NamePattern)

// ValidName reports whether an instance can have the name.
func ValidName(name string) bool { return nameRule.MatchString(name) }

func (p *parser) instance(e document.Entry, defaults *document.Table, host *Host) *Instance {
	where := document.Join("instances", e.Key)
	if !nameRule.MatchString(e.Key) {
		p.problems.Add(document.Error, e.KeyPos,
			"use 1 to 22 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen",
			"%q is not a valid instance name", e.Key)
	}
	if strings.HasSuffix(e.Key, "-setup") {
		p.problems.Add(document.Error, e.KeyPos, "choose another ending",
			"an instance name cannot end in -setup: %s would collide with the setup unit of %q",
			ServiceName(e.Key), strings.TrimSuffix(e.Key, "-setup"))
	}
	own := e.Value.Table()
	if own == nil {
		p.problems.Add(document.Error, e.Value.Pos, "write ["+where+"]", "%s is %s, not a table", where, article(e.Value.Kind()))
		return nil
	}
	p.aliases(where, own)
	i := newInstance(e.Key, e.KeyPos)
	read(p, where, instanceKeys, i, document.Merge(defaults, own))
	i.complete(p, where, host)
	for _, t := range []*document.Table{defaults, own} {
		i.Layers = append(i.Layers, layersOf(t)...)
		if v := t.Get("model"); v != nil && i.At("model") == v.Pos && i.Model != "" {
			i.Layers = append(i.Layers, Layer{Table: modelLayer(i.Model, v.Pos)})
		}
	}
	return i
}

// layersOf lists the layers of a configuration that a table of the inventory
// names: files first, then what stands in the inventory itself. They stay apart,
// for internal/config to merge by its own rules.
func layersOf(t *document.Table) []Layer {
	var out []Layer
	files, _ := t.Get("config_layers").List()
	for _, v := range files {
		if file, err := layerPath(v); err == nil {
			out = append(out, Layer{File: file, Pos: v.Pos})
		}
	}
	if c := t.Get("config").Table(); c != nil {
		out = append(out, Layer{Table: c})
	}
	named := &document.Table{}
	for _, key := range []string{"agents", "skills", "commands"} {
		if e, ok := t.Entry(key); ok && e.Value.Table() != nil {
			named.Set(e)
		}
	}
	if named.Len() > 0 {
		out = append(out, Layer{Table: named})
	}
	return out
}

// modelLayer says the key model as opencode.json does; `opencode serve` has no
// argument for it.
func modelLayer(model string, pos document.Pos) *document.Table {
	t := &document.Table{}
	t.Set(document.Entry{Key: "model", KeyPos: pos, Value: &document.Value{Pos: pos, Data: model}})
	return t
}

// newInstance holds the defaults that do not depend on other keys.
func newInstance(name string, pos document.Pos) *Instance {
	return &Instance{
		Name: name, Pos: pos, Enable: true, Auth: true, ConfigLock: true,
		Listen:       Listen{Address: defaultAddress, Port: defaultPort},
		Network:      Network{Mode: "enforce", DNS: true, OnBlock: "drop", LogRate: "5/minute"},
		Resources:    Resources{TasksMax: "4096"},
		Sandbox:      Sandbox{Protect: slices.Clone(DefaultProtect)},
		StartTimeout: defaultStartTimeout,
		Health:       Health{Interval: 10 * time.Second, Timeout: 3 * time.Second, Failures: 3},
		Restart:      "on-failure",
	}
}

// complete fills in what follows from other keys.
func (i *Instance) complete(p *parser, where string, host *Host) {
	i.completeModel(&reader{p: p, where: where, key: "provider", keys: &i.positions})
	if i.User == "" {
		i.User = UserName(i.Name)
	}
	if i.Group == "" && i.User == UserName(i.Name) {
		i.Group = i.User
	}
	if i.StateDir == "" {
		i.StateDir = filepath.Join(host.StateRoot, i.Name)
	}
	for n, p := range i.Sandbox.Protect {
		if i.Directory != "" && !filepath.IsAbs(p) {
			i.Sandbox.Protect[n] = filepath.Join(i.Directory, p)
		}
	}
	if i.Opencode == "" && host.Opencode != "" {
		i.Opencode = host.Opencode
		i.positions.set("opencode", host.At("opencode")) // what is wrong with it is wrong there
	}
}

// completeModel joins provider and model, once both are known.
func (i *Instance) completeModel(r *reader) {
	if i.provider == "" {
		return
	}
	named, _, slash := strings.Cut(i.Model, "/")
	switch {
	case i.Model == "":
		// An inherited provider waits for a model; an own one is a mistake.
		if pos := i.At("provider"); !r.p.hasDefaults[pos] {
			r.warn(pos, "set model too", "has no effect without a model")
		}
	case !slash:
		i.Model = i.provider + "/" + i.Model
	case named != i.provider && !r.p.hasDefaults[i.At("provider")]:
		r.fail(i.At("provider"), "keep one of the two", "%q contradicts model %q", i.provider, i.Model)
	}
}

// aliases are the predecessor's spellings, accepted with a note.
var aliases = []struct{ old, table, key string }{
	{"package", "", "opencode"},
	{"preInitScript", "hooks", "pre_init"},
	{"postInitScript", "hooks", "post_init"},
}

// aliases rewrites the old spellings in place, before defaults are merged.
func (p *parser) aliases(where string, t *document.Table) {
	for _, a := range aliases {
		e, ok := t.Entry(a.old)
		if !ok {
			continue
		}
		name := strings.TrimPrefix(a.table+"."+a.key, ".")
		p.problems.Add(document.Note, e.KeyPos, "", "%s.%s is the old spelling of %s", where, a.old, name)
		into := t
		if a.table != "" {
			if t.Get(a.table) == nil {
				t.Set(document.Entry{Key: a.table, KeyPos: e.KeyPos, Value: &document.Value{Pos: e.KeyPos, Data: &document.Table{}}})
			}
			into = t.Get(a.table).Table()
		}
		if into.Get(a.key) != nil {
			p.problems.Add(document.Error, e.KeyPos, "keep only "+name, "%s sets both %s and its old spelling %s", where, name, a.old)
			t.Delete(a.old)
			continue
		}
		if into == t {
			t.Rename(a.old, a.key)
			continue
		}
		t.Delete(a.old)
		if into != nil {
			into.Set(document.Entry{Key: a.key, KeyPos: e.KeyPos, Value: e.Value})
		}
	}
}

// table returns a sub-table of the root; nil when absent or, with an error, when
// it is something else.
func (p *parser) table(root *document.Table, key string) *document.Table {
	v := root.Get(key)
	if v == nil {
		return nil
	}
	if v.Table() == nil {
		p.problems.Add(document.Error, v.Pos, "write ["+key+"]", "%s is %s, not a table", key, article(v.Kind()))
	}
	return v.Table()
}

func (p *parser) unknown(e document.Entry, where string, known []string) {
	hint := ""
	if near := document.Nearest(e.Key, known); near != "" {
		hint = `did you mean "` + near + `"?`
	}
	p.problems.Add(document.Error, e.KeyPos, hint, "unknown key %q in %s", e.Key, where)
}

// places collects where everything inside a table stands.
func places(t *document.Table) map[document.Pos]bool {
	out := map[document.Pos]bool{}
	var walk func(*document.Value)
	walk = func(v *document.Value) {
		out[v.Pos] = true
		for e := range v.Table().All() {
			out[e.KeyPos] = true
			walk(e.Value)
		}
		list, _ := v.List()
		for _, e := range list {
			walk(e)
		}
	}
	walk(&document.Value{Data: t})
	return out
}
