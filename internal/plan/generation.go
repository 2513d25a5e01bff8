package plan

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Generation identifies everything that a running server was started with. It
// stands in the server's environment as OPENCODED_GENERATION, so that a process
// older than its unit, configuration, environment file, hooks or binary is seen,
// and why. The hashes are keyed: the agent can read them and learns nothing of
// the secrets that went in.
type Generation []Part

// Part is the hash of one thing whose change needs a restart.
type Part struct {
	Name string // what changed, in the operator's words
	Hash string
}

// hashLength is in hexadecimal digits; 48 bits tell versions apart.
const hashLength = 12

func hash(key []byte, name string, content ...string) Part {
	h := hmac.New(sha256.New, key)
	for _, c := range append([]string{name}, content...) {
		h.Write([]byte(c))
		h.Write([]byte{0})
	}
	return Part{Name: name, Hash: hex.EncodeToString(h.Sum(nil))[:hashLength]}
}

// String is the form that stands in the environment.
func (g Generation) String() string {
	parts := make([]string, len(g))
	for i, p := range g {
		parts[i] = p.Name + ":" + p.Hash
	}
	return strings.Join(parts, ",")
}

// Changed names the parts in which a running process differs. A process without
// a generation, or with one of another make, differs as a whole.
func (g Generation) Changed(running string) []string {
	if running == g.String() {
		return nil
	}
	have := map[string]string{}
	for _, p := range strings.Split(running, ",") {
		name, sum, _ := strings.Cut(p, ":")
		have[name] = sum
	}
	var out []string
	for _, p := range g {
		switch sum, ok := have[p.Name]; {
		case !ok:
			return []string{"started by another version of opencoded"}
		case sum != p.Hash:
			out = append(out, p.Name+" changed")
		}
	}
	return out
}
