package instance

import (
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// TestGoldenSetsEveryKey: the plan's golden "everything" is only worth its name
// while no key of the tables is missing from it.
func TestGoldenSetsEveryKey(t *testing.T) {
	archive, err := txtar.ParseFile("../plan/testdata/everything.txtar")
	if err != nil {
		t.Fatal(err)
	}
	inv := parse(t, string(archive.Files[0].Data))
	set := map[string]bool{}
	for _, i := range inv.Instances {
		for key := range i.at {
			set[key] = true
		}
	}
	for _, k := range instanceKeys {
		if !set[k.name] {
			t.Errorf("no instance of %q sets %s", strings.TrimSpace(string(archive.Comment)), k.name)
		}
	}
	for _, k := range hostKeys {
		if _, ok := inv.Host.at[k.name]; !ok {
			t.Errorf("[host] does not set %s", k.name)
		}
	}
}

// TestUnfitValues: what a unit file cannot hold is refused where it stands,
// wherever it stands.
func TestUnfitValues(t *testing.T) {
	long := "/" + strings.Repeat("x", 256)
	for value, want := range map[string]string{
		`"/a\nUser=root"`: "control character",
		`"/a\u0085b"`:     "U+0085",
		`"/a\uFFFE"`:      "U+FFFE",
		`"/a\uFDD0"`:      "U+FDD0",
		`"/a\U0001FFFF"`:  "U+1FFFF",
		`"/a\uFFFD"`:      "U+FFFD",
		`"/a "`:           "cannot hold there",
		`'/a\'`:           "cannot hold there",
		`"/a/../b"`:       "climbs",
		`"` + long + `"`:  "no path can be that long",
		`"` + strings.Repeat("/xxxxxxx", 501) + `"`: "no path can be that long",
	} {
		for _, key := range []string{"directory", "state_dir", "config_file", "opencode", "sandbox.read_only_paths", "sandbox.unix_sockets.allow", "environment_file", "path"} {
			text := "version = 1\n[instances.a]\n" + key + " = "
			if strings.Contains(key, "_paths") || strings.Contains(key, "allow") || key == "path" {
				text += "[" + value + "]"
			} else {
				text += value
			}
			if key != "directory" {
				text += "\ndirectory = \"/srv/a\""
			}
			_, problems := Parse("i.toml", []byte(text+"\n"))
			if len(problems) != 1 || problems[0].Pos.Line != 3 || !strings.Contains(problems[0].String(), want) {
				t.Errorf("%s = %.40s: got %v, want one error about %q on line 3", key, value, problems, want)
			}
		}
	}
}
