package schema

import (
	"slices"

	"github.com/google/jsonschema-go/jsonschema"
)

// foreign are keys that other tools, or another major version of opencode, use
// for something that opencode has under another name or not at all. path is
// where the key stands, "*" matches any key.
var foreign = []struct {
	path    []string
	key     string
	remedy  string
	instead string // opencode's own key, where it takes the same value
}{
	{nil, "mcpServers", "opencode's name is mcp, and a server's command is one list: mcp.NAME = { type = \"local\", command = [\"npx\", …] }", ""},
	{nil, "mcp_servers", "opencode's name is mcp", "mcp"},
	{nil, "plugins", "opencode's name is plugin, a list", "plugin"},
	{nil, "providers", "opencode's name is provider", "provider"},
	{nil, "permissions", "opencode 1.x has permission, with other rules", ""},
	{nil, "hooks", "opencode has no hooks of its own; a plugin can act on its events", ""},
	{nil, "env", "use the environment of the process, or environment of an MCP server", ""},
	{nil, "systemPrompt", "use agent.build.prompt, or instructions with the path of a file", ""},
	{nil, "rules", "use instructions, with the paths of the files", ""},
	{nil, "allowedTools", "use permission", ""},
	{nil, "temperature", "it belongs to an agent: agent.build.temperature", ""},
	{[]string{"mcp", "*"}, "env", "opencode's name is environment", "environment"},
	{[]string{"mcp", "*"}, "args", "arguments are part of command, which is one list", ""},
	{[]string{"mcp", "*"}, "disabled", "opencode's name is enabled, with the opposite value", ""},
	{[]string{"mcp", "*"}, "transport", "opencode has type: \"local\" or \"remote\"", ""},
	{[]string{"mcp", "*"}, "auth", "use headers, or oauth", ""},
	{[]string{"formatter", "*"}, "env", "opencode's name is environment here", "environment"},
	{[]string{"lsp", "*"}, "environment", "opencode's name is env here", "env"},
	{[]string{"provider", "*"}, "apiKey", "it belongs into options: provider.NAME.options.apiKey", ""},
	{[]string{"provider", "*"}, "baseURL", "it belongs into options: provider.NAME.options.baseURL", ""},
	{[]string{"command", "*"}, "prompt", "opencode's name is template", "template"},
}

// foreignKey says what is to be done about a key of foreign; "" for any other.
func foreignKey(path []string, key string) (remedy, instead string) {
	for _, f := range foreign {
		if f.key == key && slices.EqualFunc(f.path, path, matchPart) {
			return f.remedy, f.instead
		}
	}
	return "", ""
}

// missingHint shows what the missing key looks like where its value is given.
func missingHint(s *jsonschema.Schema, key string) string {
	if s == nil {
		return ""
	}
	if allowed := values(s); len(allowed) == 1 {
		return "write " + key + " = " + allowed[0]
	}
	switch s.Type {
	case "array":
		return "write " + key + " = [ … ]"
	case "string":
		return "write " + key + ` = "…"`
	}
	return ""
}
