package config

import (
	"strings"

	"github.com/opencoded/opencoded/internal/document"
)

// respell turns what opencode reads besides its own spelling, the names of its
// second major version, into the names of the first, so that layers in either
// spelling merge. Each is a note at its place; what opencode cannot translate
// stays, for the schema to refuse.
func respell(t *document.Table, problems *document.Diagnostics) {
	s := speller{problems: problems}
	s.into(t, "snapshots", "snapshot")
	s.into(t, "media", "attachment")
	s.skills(t)
	s.collection(t, "agents", "agent", []rename{{"system", "prompt"}, {"instructions", "prompt"}, {"disabled", "disable"}})
	s.collection(t, "commands", "command", nil)
	s.servers(t)
	if c := t.Get("compaction").Table(); c != nil {
		s.into(c, "buffer", "reserved")
	}
}

type rename struct{ from, to string }

type speller struct{ problems *document.Diagnostics }

func (s speller) note(e document.Entry, instead string) {
	s.problems.Add(document.Note, e.KeyPos, "", "%s is the spelling of opencode 2, written as %s", e.Key, instead)
}

// into renames a key, unless both spellings are there.
func (s speller) into(t *document.Table, from, to string) {
	e, ok := t.Entry(from)
	if !ok {
		return
	}
	if t.Get(to) != nil {
		s.problems.Add(document.Error, e.KeyPos, "keep only "+to, "%s is another spelling of %s, and both are there", from, to)
		t.Delete(from)
		return
	}
	s.note(e, to)
	t.Rename(from, to)
}

// skills: a list of folders and addresses in one.
func (s speller) skills(t *document.Table) {
	e, _ := t.Entry("skills")
	if e.Value == nil {
		return
	}
	list, ok := e.Value.List()
	if !ok {
		return
	}
	s.note(e, "skills.paths and skills.urls")
	var paths, urls []*document.Value
	for _, v := range list {
		text, _ := v.Data.(string)
		if strings.HasPrefix(strings.ToLower(text), "http") && strings.Contains(text, "://") {
			urls = append(urls, v)
		} else {
			paths = append(paths, v)
		}
	}
	both := &document.Table{}
	for _, part := range []struct {
		key  string
		list []*document.Value
	}{{"paths", paths}, {"urls", urls}} {
		if part.list != nil {
			both.Set(document.Entry{Key: part.key, KeyPos: e.KeyPos, Value: &document.Value{Pos: e.Value.Pos, Data: part.list}})
		}
	}
	t.Set(document.Entry{Key: "skills", KeyPos: e.KeyPos, Value: &document.Value{Pos: e.Value.Pos, Data: both}})
}

// collection moves named tables to another key. Text instead of a table names a
// file, which is opencoded's own (see Load), and stays.
func (s speller) collection(t *document.Table, from, to string, inner []rename) {
	e, ok := t.Entry(from)
	if !ok || e.Value.Table() == nil {
		return
	}
	var moved []document.Entry
	for entry := range e.Value.Table().All() {
		if entry.Value.Table() != nil {
			moved = append(moved, entry)
		}
	}
	if len(moved) == 0 {
		return
	}
	s.note(e, to)
	target := child(t, to, e)
	if target == nil {
		return
	}
	for _, entry := range moved {
		e.Value.Table().Delete(entry.Key)
		for _, r := range inner {
			s.into(entry.Value.Table(), r.from, r.to)
		}
		if target.Get(entry.Key) != nil {
			s.problems.Add(document.Error, entry.KeyPos, "keep one of them", "%s is there already, as %s",
				document.Join(from, entry.Key), document.Join(to, entry.Key))
			continue
		}
		target.Set(entry)
	}
	if e.Value.Table().Len() == 0 {
		t.Delete(from)
	}
}

// child is the table below a key, made where there is none; nil where something
// else stands there.
func child(t *document.Table, key string, at document.Entry) *document.Table {
	v := t.Get(key)
	if v == nil {
		v = &document.Value{Pos: at.Value.Pos, Data: &document.Table{}}
		t.Set(document.Entry{Key: key, KeyPos: at.KeyPos, Value: v})
	}
	return v.Table()
}

// servers: mcp.servers.NAME, and the spelling of its keys.
func (s speller) servers(t *document.Table) {
	mcp := t.Get("mcp").Table()
	e, ok := mcp.Entry("servers")
	if !ok || e.Value.Table() == nil || !serverTables(e.Value.Table()) {
		return
	}
	s.note(e, "mcp.NAME")
	mcp.Delete("servers")
	for entry := range e.Value.Table().All() {
		if mcp.Get(entry.Key) != nil {
			s.problems.Add(document.Error, entry.KeyPos, "keep one of them", "%s is there already, as %s",
				document.Join("mcp", "servers", entry.Key), document.Join("mcp", entry.Key))
			continue
		}
		s.server(entry.Value.Table())
		mcp.Set(entry)
	}
}

// serverTables tells a table of servers from a server of the name "servers".
func serverTables(t *document.Table) bool {
	for e := range t.All() {
		if e.Value.Table() == nil {
			return false
		}
	}
	return true
}

func (s speller) server(t *document.Table) {
	if e, ok := t.Entry("disabled"); ok && t.Get("enabled") == nil {
		if off, isBool := e.Value.Data.(bool); isBool {
			t.Rename("disabled", "enabled")
			t.Set(document.Entry{Key: "enabled", KeyPos: e.KeyPos, Value: &document.Value{Pos: e.Value.Pos, Data: !off}})
		}
	}
	if o := t.Get("oauth"); o != nil && o.Table() != nil {
		for _, r := range []rename{{"client_id", "clientId"}, {"client_secret", "clientSecret"}, {"callback_port", "callbackPort"}, {"redirect_uri", "redirectUri"}} {
			o.Table().Rename(r.from, r.to)
		}
	}
	// The short form of other tools: a program and its arguments apart.
	command, args := t.Get("command"), t.Get("args")
	if command == nil || t.Get("type") != nil {
		return
	}
	if program, ok := command.Data.(string); ok {
		list := []*document.Value{{Pos: command.Pos, Data: program}}
		if args != nil {
			more, _ := args.List()
			list = append(list, more...)
		}
		command.Data = list
		t.Delete("args")
		t.Set(document.Entry{Key: "type", KeyPos: command.Pos, Value: &document.Value{Pos: command.Pos, Data: "local"}})
	}
}
