package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	stdhash "hash"
)

// Fingerprint is the same for the same wanted state. What it is a hash of cannot be found out from it: secrets went in
// together with the key of the generations.
func (d Desired) Fingerprint() string {
	h := sha256.New()
	writeDirs(h, d.Dirs)
	writeFiles(h, d.Files)
	if d.Guard != nil {
		fmt.Fprintln(h, d.Guard)
	}
	if d.Shared != nil {
		fmt.Fprintln(h, d.Shared)
	}
	for _, t := range d.Targets {
		fmt.Fprintf(h, "%s %+v %+v %+v\n", t.Instance.Name, t.Account, t.Link, t.Openings)
		writeDirs(h, t.Dirs)
		writeFiles(h, t.Files)
		writeFiles(h, t.Units)
		if t.Egress != nil {
			fmt.Fprintln(h, t.Egress)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func writeDirs(h stdhash.Hash, dirs []Dir) {
	for _, d := range dirs {
		fmt.Fprintf(h, "%+v\n", d)
	}
}

func writeFiles(h stdhash.Hash, files []File) {
	for _, f := range files {
		fmt.Fprintf(h, "%+v\n", f)
	}
}
