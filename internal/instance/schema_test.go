package instance

import (
	"maps"
	"slices"
	"testing"
)

// TestSchemaOfEveryKey: each key has a type, and no type is of a key that there is not.
func TestSchemaOfEveryKey(t *testing.T) {
	same := func(what string, keys []string, types map[string]Schema) {
		slices.Sort(keys)
		if described := slices.Sorted(maps.Keys(types)); !slices.Equal(keys, described) {
			t.Errorf("%s: the keys are\n%q, types there are of\n%q", what, keys, described)
		}
	}
	var host, instance []string
	for _, k := range hostKeys {
		host = append(host, k.name)
	}
	for _, k := range instanceKeys {
		instance = append(instance, k.name)
	}
	same("[host]", host, hostSchemas)
	same("an instance", instance, instanceSchemas)
}

// TestSchemaDefaults: a default is either a value or told in words.
func TestSchemaDefaults(t *testing.T) {
	of := func(s Schema, path ...string) Schema {
		for _, key := range path {
			s = s["properties"].(map[string]Schema)[key]
		}
		return s
	}
	for _, c := range []struct {
		path  []string
		value any
		words any
	}{
		{[]string{"listen", "port"}, 8080.0, nil},
		{[]string{"listen", "address"}, "127.0.0.1", nil},
		{[]string{"auth"}, true, nil},
		{[]string{"start_timeout"}, "60s", nil},
		{[]string{"network_isolation", "log_rate"}, "5/minute", nil},
		{[]string{"resources", "tasks_max"}, 4096.0, nil},
		{[]string{"state_dir"}, nil, "state_root/NAME"},
		{[]string{"user"}, nil, "opencode-NAME"},
		{[]string{"log_level"}, nil, "opencode's own"},
		{[]string{"model"}, nil, nil},
	} {
		s := of(InstanceSchema(), c.path...)
		if s["default"] != c.value || s[SchemaDefault] != c.words {
			t.Errorf("%v: default %v, in words %v; want %v, %v", c.path, s["default"], s[SchemaDefault], c.value, c.words)
		}
	}
}
