package plan

import (
	"io/fs"

	"github.com/opencoded/opencoded/internal/netpolicy"
)

// Observed is what the host holds, as far as opencoded is concerned.
type Observed struct {
	Paths     map[string]Path             // every path that Desired names; absent ones too
	Units     map[string]Unit             // by unit name
	Tables    map[string]netpolicy.Table  // marked tables that are loaded
	Stale     map[string][]string         // files of wanted instances in the other unit directory, by instance
	Strays    map[string][]string         // what is in Target.Tree and not wanted, by instance; the deepest first
	Quotas    map[string]Quota            // state directories in a project of opencoded's, by instance
	Openings  map[string][]Opening        // rules of opencoded's in the firewalls of the host, by instance
	Leftovers []Leftover                  // of instances that are no longer wanted, sorted by name
	Counts    map[string]netpolicy.Counts // by instance
}

// Path is what was found at a path. Nothing there: Exists is false.
type Path struct {
	Exists   bool
	Type     fs.FileMode // type bits only; 0 is a regular file
	Mode     fs.FileMode // permission bits
	UID, GID uint32
	Content  string // of a regular file; what a symbolic link says
}

// Unit is the state of a systemd unit.
type Unit struct {
	Active     string // active, inactive, failed, activating, deactivating
	Sub        string // running, dead, auto-restart, …
	Enabled    bool
	Ran        bool   // since the boot, and not any more
	NeedReload bool   // the file is newer than what systemd has loaded
	MainPID    uint32 // 0 when nothing runs
	Generation string // OPENCODED_GENERATION of the running process
}

// Leftover is what still exists of an instance that is no longer wanted.
type Leftover struct {
	Name   string
	Files  []string // its marked unit files
	Active bool     // one of its units still runs
	Table  bool     // its egress table is loaded
	Quota  *Quota   // of its state directory
}
