package schema

import "slices"

// sets are the lists in which a value counts once and order does not matter
// between layers: merging unites them.
var sets = [][]string{
	{"instructions"}, {"plugin"}, {"skills", "paths"}, {"skills", "urls"}, {"watcher", "ignore"},
	{"disabled_providers"}, {"enabled_providers"},
}

// IsSet reports whether the list at a path is a set by meaning.
func IsSet(path []string) bool {
	return slices.ContainsFunc(sets, func(s []string) bool { return slices.Equal(s, path) })
}
