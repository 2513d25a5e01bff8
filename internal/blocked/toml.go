package blocked

import (
	"fmt"
	"strings"
)

// namesShown bounds the names in one comment; how many more there are is said.
const namesShown = 3

// TOML prints entries as a fragment of an inventory, after remarks.
func TOML(instance string, entries []Entry, names Names, remarks ...string) string {
	var b strings.Builder
	for _, r := range remarks {
		fmt.Fprintf(&b, "# %s\n", Printable(r))
	}
	fmt.Fprintf(&b, "[instances.%s.network_isolation]\noutbound_allow_cidrs = [", instance)
	width := 0
	for _, e := range entries {
		width = max(width, len(e.line()))
	}
	for _, e := range entries {
		fmt.Fprintf(&b, "\n\t%-*s # %s", width, e.line(), Printable(e.comment(names)))
	}
	if len(entries) > 0 {
		b.WriteByte('\n')
	}
	b.WriteString("]\n")
	return b.String()
}

func (e Entry) line() string {
	line := fmt.Sprintf("%q,", e.Destination)
	if e.Refused != "" {
		line = "# " + line
	}
	return line
}

func (e Entry) comment(names Names) string {
	var parts []string
	if e.Refused != "" {
		parts = append(parts, e.Refused)
	}
	if e.Present {
		parts = append(parts, "present")
	}
	if e.Logged > 0 {
		logged := fmt.Sprintf("%d logged", e.Logged)
		if len(e.Addresses) > 1 {
			logged += fmt.Sprintf(", %d addresses", len(e.Addresses))
		}
		parts = append(parts, logged)
	}
	if n := e.Destination.Network; !e.Present && !n.IsSingleIP() && n.Addr().IsPrivate() {
		parts = append(parts, "WARNING: private network, its other hosts are allowed too")
	}
	var known []string
	for _, a := range e.Addresses {
		known = append(known, names[a]...)
	}
	if more := len(known) - namesShown; more > 0 {
		known = append(known[:namesShown], fmt.Sprintf("%d more names", more))
	}
	if len(known) > 0 {
		parts = append(parts, strings.Join(known, ", "))
	}
	if e.portless != "" && !e.Present && e.Refused == "" {
		parts = append(parts, e.portless+" has no port: every port is allowed too")
	}
	return strings.Join(parts, "; ")
}
