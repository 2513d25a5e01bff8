// Package config composes opencode's own configuration files, opencode.json and
// tui.json, out of layers, and says what is wrong with them.
//
// It decides what the files say and how they are written: `$schema` first, keys
// in the order in which they were given (in a permission map the last matching
// rule wins), the same bytes for the same input; which agents, commands, skills
// and copied files stand beside them; and what is surely a mistake although
// opencode would accept it (lint). Which keys and values opencode accepts is
// internal/schema. Where the files live and who may change them is
// internal/plan and internal/sandbox. It never touches the host: what layers
// lead to is read through a Reader that the caller gives.
package config
