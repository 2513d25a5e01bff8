package script

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// checkJSON looks into one JSON document, which must be all that a file (or
// "stdout") holds:
//
//	[!] json FILE PATH [WANT]
//
// PATH is keys and indices joined by dots, "." for all; "#" behind it counts a list.
// Without WANT it only has to be there.
func checkJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: json FILE PATH [WANT]")
	}
	d := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	d.UseNumber()
	var document any
	if err := d.Decode(&document); err != nil {
		ts.Fatalf("%s is not JSON: %v", args[0], err)
	}
	if _, err := d.Token(); err != io.EOF {
		ts.Fatalf("%s holds more than one JSON document", args[0])
	}
	value, found := lookup(document, args[1])
	switch {
	case neg && len(args) == 2 && found:
		ts.Fatalf("%s is there: %v", args[1], value)
	case neg && len(args) == 2:
	case !found:
		ts.Fatalf("there is no %s in %v", args[1], document)
	case len(args) == 3 && (fmt.Sprint(value) == args[2]) == neg:
		ts.Fatalf("%s is %v", args[1], value)
	}
}

func lookup(at any, path string) (any, bool) {
	path, count := strings.CutSuffix(path, "#")
	for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' }) {
		switch v := at.(type) {
		case map[string]any:
			next, ok := v[step]
			if !ok {
				return nil, false
			}
			at = next
		case []any:
			n, err := strconv.Atoi(step)
			if err != nil || n < 0 || n >= len(v) {
				return nil, false
			}
			at = v[n]
		default:
			return nil, false
		}
	}
	if !count {
		return at, true
	}
	list, ok := at.([]any)
	return len(list), ok
}
