package config

import (
	"fmt"
	"slices"
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

// servers: mcp.servers.NAME, and the spelling of its keys, there and below mcp.
func (s speller) servers(t *document.Table) {
	mcp := t.Get("mcp").Table()
	e, ok := mcp.Entry("servers")
	apart := ok && e.Value.Table() != nil && serverTables(e.Value.Table())
	for entry := range mcp.All() {
		if server := entry.Value.Table(); server != nil && !(apart && entry.Key == "servers") && lowered(server) {
			s.serverKeys([]string{"mcp", entry.Key}, server)
		}
	}
	if !apart {
		return
	}
	s.note(e, "mcp.NAME")
	mcp.Delete("servers")
	quiet := speller{problems: &document.Diagnostics{}} // the note is enough
	for entry := range e.Value.Table().All() {
		if mcp.Get(entry.Key) != nil {
			s.problems.Add(document.Error, entry.KeyPos, "keep one of them", "%s is there already, as %s",
				document.Join("mcp", "servers", entry.Key), document.Join("mcp", entry.Key))
			continue
		}
		server := entry.Value.Table()
		if server.Get("enabled") == nil || server.Get("disabled") != nil { // opencode takes any other as one of the first version
			quiet.serverKeys([]string{"mcp", "servers", entry.Key}, server)
		}
		oneCommand(server)
		mcp.Set(entry)
	}
	s.problems.AddAll(quiet.problems.Errors())
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

var oauthKeys = []rename{{"client_id", "clientId"}, {"client_secret", "clientSecret"}, {"callback_port", "callbackPort"}, {"redirect_uri", "redirectUri"}}

// lowered reports whether opencode translates a server that stands directly below
// mcp: one of the keys of its second version is there, and nothing that this
// version refuses. Otherwise opencode drops those keys without a word.
func lowered(t *document.Table) bool {
	off, oauth, timeout := t.Get("disabled"), t.Get("oauth").Table(), t.Get("timeout")
	if off == nil && !slices.ContainsFunc(oauthKeys, func(r rename) bool { return oauth.Get(r.from) != nil }) {
		return false
	}
	if kind, _ := t.Get("type").Text(); kind != "local" && kind != "remote" {
		return false
	}
	if off != nil && off.Kind() != "boolean" {
		return false
	}
	return timeout == nil || timeout.Table() != nil
}

// serverKeys: of a server that is read as one of the second version, opencode
// drops what only the first knows, but for enabled.
func (s speller) serverKeys(path []string, t *document.Table) {
	if e, ok := t.Entry("disabled"); ok {
		off, isBool := e.Value.Data.(bool)
		switch {
		case !isBool: // left for the schema to refuse
		case t.Get("enabled") != nil:
			s.problems.Add(document.Error, e.KeyPos, "keep only enabled", "disabled is another spelling of enabled, and both are there")
			t.Delete("disabled")
		default:
			s.note(e, fmt.Sprintf("enabled = %v", !off))
			t.Rename("disabled", "enabled")
			t.Set(document.Entry{Key: "enabled", KeyPos: e.KeyPos, Value: &document.Value{Pos: e.Value.Pos, Data: !off}})
		}
	}
	oauth := t.Get("oauth").Table()
	for _, r := range oauthKeys {
		if e, ok := oauth.Entry(r.to); ok {
			s.problems.Add(document.Error, e.KeyPos, "write "+r.from+" here, or all of the server in the spelling of opencode 1",
				"%s: opencode reads this server in the spelling of opencode 2, and drops the key", document.Join(below(path, "oauth", r.to)...))
			continue
		}
		s.into(oauth, r.from, r.to)
	}
}

// oneCommand takes the short form of other tools: a program and its arguments
// apart.
func oneCommand(t *document.Table) {
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
