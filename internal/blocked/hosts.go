package blocked

import (
	"net/netip"
	"slices"
	"strings"
	"unicode"
)

// Names are the names of addresses.
type Names map[netip.Addr][]string

// Hosts reads a hosts(5) file. Lines that are none count for nothing.
func Hosts(text string) Names {
	names := Names{}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		a, err := netip.ParseAddr(f[0])
		if err != nil {
			continue
		}
		a = a.WithZone("").Unmap()
		for _, n := range f[1:] {
			if n = Printable(n); !slices.Contains(names[a], n) {
				names[a] = append(names[a], n)
			}
		}
	}
	return names
}

// Printable is a text that does nothing to a terminal, and stays on its line.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
