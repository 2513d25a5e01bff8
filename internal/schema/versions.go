package schema

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/opencoded/opencoded/internal/lazy"
)

// version is MAJOR.MINOR.PATCH, as opencode prints it.
var version = lazy.MustCompile(`^v?([0-9]{1,6})\.([0-9]{1,6})\.([0-9]{1,6})`)

// ParseVersion finds the version in what `opencode --version` prints; "" means
// that there is none.
func ParseVersion(text string) string {
	m := version.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return m[1] + "." + m[2] + "." + m[3]
}

func numbers(v string) [3]int {
	var out [3]int
	m := version.FindStringSubmatch(v)
	for i := range out {
		if m != nil {
			out[i], _ = strconv.Atoi(m[i+1])
		}
	}
	return out
}

func compareVersions(a, b string) int {
	x, y := numbers(a), numbers(b)
	return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]), cmp.Compare(x[2], y[2]))
}

// Nearest picks the known version whose schemas are most likely those of another:
// itself, else the newest before it, else the oldest after it.
func Nearest(wanted string, known []string) string {
	known = slices.SortedFunc(slices.Values(known), compareVersions)
	best := ""
	for _, k := range known {
		if best == "" || compareVersions(k, wanted) <= 0 {
			best = k
		}
	}
	return best
}
