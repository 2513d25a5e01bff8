package instance

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Schema is a JSON Schema, for whoever checks or documents an inventory before it
// is text (nixos/, editors). It admits what the reader admits, and more: what needs
// a calculation or a second key is the reader's alone to refuse.
type Schema map[string]any

// Keywords of our own, besides those of JSON Schema.
const (
	// SchemaDefault is a default in words, where it is no value.
	SchemaDefault = "x-default"
	// SchemaFile marks the path of a file that is part of the inventory, as an
	// agent is: its content is no secret, and may be kept with the inventory.
	SchemaFile = "x-file"
	// SchemaSecret marks the path of a file whose content nobody else may see.
	SchemaSecret = "x-secret"
	// SchemaAlias marks an old spelling, and names the key that is meant.
	SchemaAlias = "x-alias-of"
)

func described(s Schema, keyword string) Schema {
	out := Schema{keyword: true}
	for k, v := range s {
		out[k] = v
	}
	return out
}

func like(rule fmt.Stringer) Schema { return Schema{"type": "string", "pattern": rule.String()} }
func listOf(s Schema) Schema        { return Schema{"type": "array", "items": s} }
func tableOf(s Schema) Schema       { return Schema{"type": "object", "additionalProperties": s} }
func anyOf(s ...Schema) Schema      { return Schema{"anyOf": s} }
func words(w ...string) Schema      { return Schema{"type": "string", "enum": w} }
func whole(low, high int) Schema {
	return Schema{"type": "integer", "minimum": low, "maximum": high}
}

var (
	stringSchema   = Schema{"type": "string"}
	booleanSchema  = Schema{"type": "boolean"}
	pathSchema     = Schema{"type": "string", "pattern": "^/.*$"}
	optionalSchema = Schema{"type": "string", "pattern": "^-?/.*$"}
	durationSchema = Schema{"type": "string", "pattern": `^([0-9.]+(ns|us|µs|ms|s|m|h))+$`}
	scalarSchema   = anyOf(stringSchema, Schema{"type": "integer"}, booleanSchema)
	fileSchema     = described(stringSchema, SchemaFile)
	secretSchema   = described(optionalSchema, SchemaSecret)
)

// hostSchemas and instanceSchemas say the types of hostKeys and instanceKeys.
var hostSchemas = map[string]Schema{
	"opencode":       pathSchema,
	"state_root":     pathSchema,
	"unit_dir":       words("/etc/systemd/system", "/run/systemd/system"),
	"uid_range":      listOf(whole(100, 1<<31-2)),
	"egress_layout":  words("auto", "per-instance", "shared"),
	"auto_apply":     booleanSchema,
	"operators":      listOf(like(operatorRule)),
	"metrics_listen": stringSchema,
}

var instanceSchemas = map[string]Schema{
	"enable":                                 booleanSchema,
	"opencode":                               pathSchema,
	"directory":                              pathSchema,
	"state_dir":                              pathSchema,
	"user":                                   like(accountRule),
	"group":                                  like(accountRule),
	"extra_groups":                           listOf(like(accountRule)),
	"listen.address":                         Schema{"type": "string", "pattern": "^[0-9A-Fa-f:.]+$"},
	"listen.port":                            whole(1, 65535),
	"open_firewall":                          booleanSchema,
	"auth":                                   booleanSchema,
	"environment":                            tableOf(stringSchema),
	"environment_file":                       anyOf(secretSchema, listOf(secretSchema)),
	"credentials":                            tableOf(described(pathSchema, SchemaSecret)),
	"encrypted_credentials":                  tableOf(pathSchema),
	"path":                                   listOf(pathSchema),
	"log_level":                              words("debug", "info", "warn", "error", "DEBUG", "INFO", "WARN", "ERROR"),
	"model":                                  stringSchema,
	"provider":                               stringSchema,
	"extra_args":                             listOf(stringSchema),
	"config_layers":                          listOf(fileSchema),
	"config":                                 {"type": "object"}, // opencode's own: internal/schema
	"agents":                                 tableOf(fileSchema),
	"skills":                                 tableOf(fileSchema),
	"commands":                               tableOf(fileSchema),
	"config_file":                            described(pathSchema, SchemaFile),
	"config_lock":                            booleanSchema,
	"hooks.pre_init":                         stringSchema,
	"hooks.post_init":                        stringSchema,
	"sandbox.read_write_paths":               listOf(optionalSchema),
	"sandbox.read_only_paths":                listOf(optionalSchema),
	"sandbox.inaccessible_paths":             listOf(optionalSchema),
	"sandbox.unix_sockets.allow":             listOf(pathSchema),
	"sandbox.protect":                        anyOf(booleanSchema, listOf(stringSchema)),
	"sandbox.allow_namespaces":               booleanSchema,
	"network_isolation.enable":               booleanSchema,
	"network_isolation.outbound_allow_cidrs": listOf(Schema{"type": "string", "pattern": `^[]0-9A-Fa-f:.[]+(/[0-9]+)?]?(:[0-9]+)?(/(tcp|udp))?$`}),
	"network_isolation.mode":                 words("enforce", "report"),
	"network_isolation.dns":                  booleanSchema,
	"network_isolation.on_block":             words("drop", "reject"),
	"network_isolation.log_rate":             like(rateRule),
	"resources.memory_max":                   sizeSchema,
	"resources.memory_high":                  sizeSchema,
	"resources.cpu_quota":                    like(quotaRule),
	"resources.tasks_max":                    anyOf(whole(1, 1<<31-1), like(tasksRule)),
	"resources.nofile":                       anyOf(whole(1, 1<<31-1), like(filesRule)),
	"resources.state_max":                    Schema{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?[KMGTP]?|infinity)$`},
	"start_timeout":                          durationSchema,
	"health.interval":                        durationSchema,
	"health.timeout":                         durationSchema,
	"health.failures":                        whole(0, 1000),
	"restart":                                words("on-failure", "always", "no"),
	"unit": {"type": "object", "additionalProperties": false, "properties": map[string]Schema{
		"Unit": directivesSchema, "Service": directivesSchema,
	}},
}

var (
	sizeSchema       = anyOf(whole(0, 1<<53-1), like(sizeRule))
	directivesSchema = tableOf(anyOf(scalarSchema, listOf(scalarSchema)))
)

// HostSchema describes the table [host].
func HostSchema() Schema { return schemaOf(hostKeys, hostSchemas) }

// InstanceSchema describes an instance, and [defaults], whose keys are the same: so
// it requires none.
func InstanceSchema() Schema {
	s := schemaOf(instanceKeys, instanceSchemas)
	for _, a := range aliases {
		key := strings.TrimPrefix(a.table+"."+a.key, ".")
		old := described(instanceSchemas[key], "deprecated")
		old[SchemaAlias] = key
		s["properties"].(map[string]Schema)[a.old] = old
	}
	return s
}

// schemaOf makes nested tables of the flat table of keys.
func schemaOf[T any](keys []key[T], types map[string]Schema) Schema {
	root := table()
	for _, k := range keys {
		at, parts := root, strings.Split(k.name, ".")
		for _, part := range parts[:len(parts)-1] {
			below := at["properties"].(map[string]Schema)
			if below[part] == nil {
				below[part] = table()
			}
			at = below[part]
		}
		of, known := types[k.name]
		if !known {
			panic("internal error: no schema of the key " + k.name)
		}
		s := Schema{"description": k.doc}
		for keyword, v := range of {
			s[keyword] = v
		}
		if value, ok := literal(of, k.def); ok {
			s["default"] = value
		} else if k.def != "" {
			s[SchemaDefault] = k.def
		}
		at["properties"].(map[string]Schema)[parts[len(parts)-1]] = s
	}
	return root
}

func table() Schema {
	return Schema{"type": "object", "additionalProperties": false, "properties": map[string]Schema{}}
}

// literal reads a default as the documentation has it. Where the type is text,
// only a closed set or a pattern tells a value from a description in words.
func literal(s Schema, def string) (any, bool) {
	if list, ok := s["anyOf"].([]Schema); ok {
		for _, each := range list {
			if v, ok := literal(each, def); ok {
				return v, true
			}
		}
		return nil, false
	}
	if s["type"] == "string" {
		enum, _ := s["enum"].([]string)
		pattern, _ := s["pattern"].(string)
		return def, slices.Contains(enum, def) || pattern != "" && regexp.MustCompile(pattern).MatchString(def)
	}
	var v any
	if json.Unmarshal([]byte(def), &v) != nil {
		return nil, false
	}
	kind := ""
	switch v.(type) {
	case bool:
		kind = "boolean"
	case float64:
		kind = "integer"
	case []any:
		kind = "array"
	case map[string]any:
		kind = "object"
	}
	return v, s["type"] == kind
}
