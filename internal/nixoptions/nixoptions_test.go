package nixoptions

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/schema"
)

// TestSchemaIsUpToDate: nixos/schema.json is what the program's own schemas say.
func TestSchemaIsUpToDate(t *testing.T) {
	want, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../nixos/schema.json")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("nixos/schema.json is out of date (run: go generate ./internal/nixoptions): %v", err)
	}
}

// values are tried for each key: of every kind, and near the borders of what some
// key accepts.
var values = []string{
	`true`, `false`, `0`, `1`, `-1`, `5`, `8080`, `65535`, `65536`, `1.5`,
	`""`, `"x"`, `"/srv/x"`, `"-/srv/x"`, `"relative/x"`, `"agent"`, `"Agent"`, `"two words"`,
	`"127.0.0.1"`, `"::1"`, `"::ffff:10.0.0.1"`, `"debug"`, `"INFO"`, `"enforce"`, `"report"`, `"drop"`, `"reject"`, `"always"`, `"no"`, `"on-failure"`,
	`"5/minute"`, `"0/minute"`, `"10s"`, `"1h30m"`, `"1.5s"`, `"500ms"`, `"10"`, `"64G"`, `"1.5G"`, `"50%"`, `"150.5%"`, `"infinity"`, `"1024:2048"`,
	`"anthropic/claude-sonnet-4-5"`, `"anthropic"`, `"--mdns"`,
	`[]`, `["/srv/x"]`, `["-/srv/x"]`, `["x"]`, `["agent", "devs"]`, `[1, 2]`, `[true]`,
	`["10.0.0.0/8", "2001:db8::/32", "192.0.2.7:5432", "[2001:db8::/64]:443", "198.51.100.1:53/udp", "::1", "0.0.0.0/0"]`, `["10.0.0.0/33"]`,
	`{}`, `{ X = "y" }`, `{ x = "/run/x" }`, `{ x = 1 }`, `{ Service = { Nice = 5, ExecStartPre = ["a", "b"], PrivateTmp = true } }`, `{ Install = { Alias = "x" } }`,
}

// TestSchemaAdmitsWhatIsRead holds the schema against the reader: key by key, what
// one accepts the other must admit.
func TestSchemaAdmitsWhatIsRead(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.New("instances.toml", text).Valid(); err != nil {
		t.Fatal(err)
	}
	accepted, refused := map[string]int{}, map[string]int{}
	for key, own := range keys(t, text, instanceDef) {
		// By itself: the library prepares all of a schema for each check.
		fragment, err := json.Marshal(node{"type": "object", "properties": node{"value": own}})
		if err != nil {
			t.Fatal(err)
		}
		s := schema.New("instances.toml", fragment)
		for _, value := range values {
			_, problems := instance.Parse("instances.toml", []byte("version = 1\n[defaults]\n"+key+" = "+value+"\n"))
			table, bad := document.ParseTOML("instances.toml", []byte("value = "+value+"\n"))
			if len(bad) > 0 {
				t.Fatal(bad)
			}
			violations, err := s.Check(table)
			if err != nil {
				t.Fatal(err)
			}
			switch admitted := len(violations) == 0; {
			case len(problems.Errors()) > 0 && !admitted:
				refused[key]++
			case len(problems.Errors()) == 0 && !admitted:
				t.Errorf("%s = %s is read, and the schema refuses it: %v", key, value, violations)
			case len(problems.Errors()) == 0:
				accepted[key]++
			}
		}
		if accepted[key] == 0 {
			t.Errorf("%s: none of the values is read (add one that is)", key)
		}
		if refused[key] == 0 {
			t.Errorf("%s: the schema refuses nothing", key)
		}
	}
}

// keys are the schemas of all keys of a definition by their dotted names, but of
// config, which is opencode's.
func keys(t *testing.T, text []byte, def string) map[string]node {
	t.Helper()
	var root struct {
		Defs map[string]node `json:"$defs"`
	}
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	out := map[string]node{}
	var below func(prefix string, n node)
	below = func(prefix string, n node) {
		properties, isTable := n["properties"].(node)
		if !isTable || prefix == "unit." {
			out[strings.TrimSuffix(prefix, ".")] = n
			return
		}
		for key, v := range properties {
			below(prefix+key+".", v.(node))
		}
	}
	below("", root.Defs[def])
	delete(out, "config")
	return out
}

func TestPOSIX(t *testing.T) {
	for pattern, want := range map[string]string{
		"^#[0-9a-f]{6}$": "#[0-9a-f]{6}",
		"^(a|b)$":        "(a|b)",
		"^a|b$":          "",
		"a$":             "",
		`^[^/\s]+$`:      "",
		"^(?:a)$":        "",
		`^\d+$`:          "",
	} {
		got, err := POSIX(pattern)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", pattern, got, err, want)
		}
	}
}
