package document

import (
	"fmt"

	"github.com/tailscale/hujson"
)

// Edit is one change of a JSON document. Exactly one of Rename, Replace and
// Delete is meant.
type Edit struct {
	Path    []string // keys from the root; "0", "1", … for the elements of lists
	Rename  string   // the key gets this name, in its place
	Replace *Value   // the value becomes this: a string, a number, true or false
	Delete  bool     // key and value go
}

// EditJSON changes a JSON document in place: comments, order and everything that
// no edit names stay as they are. A path that leads nowhere is an error.
func EditJSON(data []byte, edits []Edit) ([]byte, error) {
	root, err := hujson.Parse(closed(data))
	if err != nil {
		return nil, err
	}
	for _, e := range edits {
		if err := edit(&root, e); err != nil {
			return nil, fmt.Errorf("cannot edit %s: %w", Join(e.Path...), err)
		}
	}
	return root.Pack(), nil
}

func edit(root *hujson.Value, e Edit) error {
	at := root
	for i, key := range e.Path {
		last := i == len(e.Path)-1
		switch c := at.Value.(type) {
		case *hujson.Object:
			n := memberIndex(c, key)
			if n < 0 {
				return fmt.Errorf("no key %q", key)
			}
			if last {
				return editMember(c, n, e)
			}
			at = &c.Members[n].Value
		case *hujson.Array:
			n := elementIndex(c, key)
			if n < 0 {
				return fmt.Errorf("no element %s", key)
			}
			at = &c.Elements[n]
			if last && e.Replace != nil {
				at.Value = literal(e.Replace)
				return nil
			}
		default:
			return fmt.Errorf("%q is neither in an object nor in a list", key)
		}
	}
	return fmt.Errorf("nothing to change")
}

func memberIndex(o *hujson.Object, key string) int {
	for i := range o.Members {
		if name, ok := o.Members[i].Name.Value.(hujson.Literal); ok && name.String() == key {
			return i
		}
	}
	return -1
}

func elementIndex(a *hujson.Array, key string) int {
	for i := range a.Elements {
		if fmt.Sprint(i) == key {
			return i
		}
	}
	return -1
}

func editMember(o *hujson.Object, n int, e Edit) error {
	m := &o.Members[n]
	switch {
	case e.Rename != "":
		if memberIndex(o, e.Rename) >= 0 {
			return fmt.Errorf("there is a key %q already", e.Rename)
		}
		m.Name.Value = hujson.String(e.Rename)
	case e.Replace != nil:
		m.Value.Value = literal(e.Replace)
	case e.Delete:
		o.Members = append(o.Members[:n], o.Members[n+1:]...)
	}
	return nil
}

func literal(v *Value) hujson.Literal {
	switch d := v.Data.(type) {
	case bool:
		return hujson.Bool(d)
	case int64:
		return hujson.Int(d)
	case float64:
		return hujson.Float(d)
	default:
		return hujson.String(fmt.Sprint(d))
	}
}
