package plan

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
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

// Names of parts that are judged in a way of their own.
const (
	partUnit          = "unit"
	partConfiguration = "configuration"
	partSetup         = "set-up"
	partBinary        = "opencode binary"
	partAuthor        = "opencoded" // the program that rendered the unit; by itself no reason for anything
)

// Changed says in which parts a running process differs from what is wanted: what it is restarted for, and what can
// wait until the operator has time for it. Waiting are another opencode at the same path, and what differs only
// because another opencoded renders it: an upgrade restarts nothing. onDisk is the generation of the unit file as it is.
func (g Generation) Changed(onDisk, running string) (restart, waiting []string) {
	if running == g.String() {
		return nil, nil
	}
	have, file, want := generationParts(running), generationParts(onDisk), generationParts(g.String())
	if have[partUnit] == "" {
		return []string{"started by something else"}, nil
	}
	for _, p := range g {
		if p.Name == partAuthor || have[p.Name] == p.Hash {
			continue
		}
		// Whose work is the difference? The file's, where the file is not yet as wanted.
		author := have[partAuthor]
		if sum, written := file[p.Name]; written && sum != p.Hash {
			author = file[partAuthor]
		}
		rendered := p.Name == partUnit || p.Name == partConfiguration || p.Name == partSetup
		if p.Name == partBinary || have[p.Name] == "" || rendered && author != want[partAuthor] {
			waiting = append(waiting, p.Name)
		} else {
			restart = append(restart, p.Name+" changed")
		}
	}
	return restart, waiting
}

// generationParts are the hashes of a generation as it stands in the environment, by name.
func generationParts(text string) map[string]string {
	parts := map[string]string{}
	for p := range strings.SplitSeq(text, ",") {
		name, sum, _ := strings.Cut(p, ":")
		parts[name] = sum
	}
	return parts
}

// outdated puts what waits for a restart into words.
func (t *Target) outdated(waiting []string) []string {
	var out []string
	for _, name := range waiting {
		word := "what this opencoded renders"
		if name == partBinary {
			word = strings.TrimSpace("opencode " + t.Binary.Version)
		}
		if !slices.Contains(out, word) {
			out = append(out, word)
		}
	}
	return out
}
