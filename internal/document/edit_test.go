package document

import "testing"

func TestEditJSON(t *testing.T) {
	const text = "{\n  // about a\n  \"a\": {\"b\": [1, {\"c\": \"x\"}], /* d */ \"d\": true},\n  \"e\": 1, // end\n}"
	got, err := EditJSON([]byte(text), []Edit{
		{Path: []string{"a", "b", "1", "c"}, Replace: &Value{Data: "y"}},
		{Path: []string{"a", "b", "0"}, Replace: &Value{Data: int64(2)}},
		{Path: []string{"a", "d"}, Rename: "f"},
		{Path: []string{"e"}, Delete: true},
	})
	const want = "{\n  // about a\n  \"a\": {\"b\": [2, {\"c\": \"y\"}], /* d */ \"f\": true} // end\n}"
	if err != nil || string(got) != want {
		t.Errorf("got %v\n%q\nwant\n%q", err, got, want)
	}
	for _, e := range []Edit{
		{Path: []string{"nowhere"}, Delete: true},
		{Path: []string{"a", "b", "7", "c"}, Rename: "x"},
		{Path: []string{"e", "x"}, Rename: "x"},
		{Path: []string{"e"}, Rename: "a"},
		{},
	} {
		if out, err := EditJSON([]byte(text), []Edit{e}); err == nil {
			t.Errorf("%v: %s", e, out)
		}
	}
}
