// Package plan decides what the host shall hold and what has to be done to get
// there.
//
// Desire turns an inventory and a few facts of the host into the wanted state;
// Diff compares it with what was observed and returns ordered steps. Converged
// has one definition, for plan, apply, status and repair alike: Diff is empty.
// Both are pure: all reading and writing of the host is internal/host.
package plan

import (
	"io/fs"

	"github.com/opencoded/opencoded/internal/config"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/netpolicy"
	"github.com/opencoded/opencoded/internal/sandbox"
	"github.com/opencoded/opencoded/internal/schema"
)

// Places that are shared by all instances.
const (
	// PoliciesFile is the compiled egress policy: what `opencoded net ensure`
	// loads without a daemon and without a valid inventory.
	PoliciesFile = instance.DataDir + "/egress.json"
	// SocketsFile is the compiled list of allowed socket paths, for whoever binds
	// them anew while instances run.
	SocketsFile = instance.DataDir + "/sockets.json"
	// KeyFile is the key of the generation hashes.
	KeyFile = instance.DataDir + "/generation.key"
	// FragmentDir holds the systemd-sysusers fragments, one an instance.
	FragmentDir = "/etc/sysusers.d"
)

// FragmentPath is the systemd-sysusers fragment of an instance's account.
func FragmentPath(name string) string { return FragmentDir + "/opencode-" + name + ".conf" }

// AccountComment is the comment (GECOS) field of an account that opencoded makes.
func AccountComment(name string) string { return "opencode server " + name }

// Facts is what Desire must know of the host.
type Facts struct {
	Sandbox  sandbox.Host
	Author   string             // stamp of the running opencoded, which renders
	Key      []byte             // of the generation hashes; fresh where there is none yet
	Accounts map[string]Account // existing accounts, by user name
	Groups   map[string]uint32  // existing groups and their ids
	Taken    map[uint32]bool    // ids that a user or a group has
	IDs      instance.UIDRange  // from which new accounts get their id

	Binaries    map[string]Binary             // by path, as the inventory names it
	Environment map[string][]byte             // content of environment files; a missing optional one is absent
	Credentials map[string][]byte             // content of the files of credentials
	Repository  map[string]sandbox.Repository // of each instance's directory, by instance name
	ConfigFiles map[string][]byte             // content of each config_file
	Bundles     map[string]config.Bundle      // what the configuration is made of, by instance name
	Schemas     map[string]schema.Set         // of each binary's version, by path as the inventory names it
	Passwords   map[string]string             // by instance name; fresh where there is none yet

	Projects map[uint32]string // projects of disk quotas that the administrator has named, and in which file

	Firewalls      []Firewall
	DroppingInputs []netpolicy.InputChain
}

// Account is a user of the host with its primary group.
type Account struct {
	User  string
	UID   uint32
	Group string // the group that the service runs as; "" is the primary group, by whatever name
	GID   uint32
	Home  string
	Shell string
	Ours  bool // made by opencoded: a marked fragment says so
}

// Binary is an opencode program on disk.
type Binary struct {
	Resolved string // absolute path, symbolic links resolved
	Stamp    string // changes when the file is replaced: device, inode, size, time
	Version  string // "" if nobody needed to know
}

// Desired is the wanted state of the host.
type Desired struct {
	Dirs    []Dir // shared by all instances
	Files   []File
	Guard   *netpolicy.Table // nil when there is no instance
	Shared  *netpolicy.Table // nil when each isolated instance has a table of its own
	Targets []Target         // sorted by name
}

// Target is the wanted state of one instance.
type Target struct {
	Instance   *instance.Instance
	Account    Account
	NewAccount bool
	Binary     Binary // of opencode
	Dirs       []Dir
	Files      []File
	Link       Link
	Quota      *Quota // nil when the state directory is not limited
	Tree       string // a directory of which nothing but what is named here shall be there
	Policy     netpolicy.Policy
	Egress     *netpolicy.Table // nil when egress is not restricted, or in the shared table
	Openings   []Opening        // in the firewalls of the host
	Units      []File           // set-up first
	Generation Generation
}

// Dir is a directory. One that exists already and is not opencoded's own
// (Adopt) keeps its owner and mode.
type Dir struct {
	Path     string
	Mode     fs.FileMode
	UID, GID uint32
	Adopt    bool
	Below    string // not empty: a directory of the instance below which no symbolic link is followed
}

// File is a regular file with its whole content.
type File struct {
	Path     string
	Mode     fs.FileMode
	UID, GID uint32
	Content  string
	Quiet    string // not empty: the content is not shown, and why
}

// Link is a symbolic link below a directory of the instance.
type Link struct {
	Below, Name string // Name is relative to Below
	Target      string
}

// Target returns the target of an instance, or nil.
func (d Desired) Target(name string) *Target {
	for i := range d.Targets {
		if d.Targets[i].Instance.Name == name {
			return &d.Targets[i]
		}
	}
	return nil
}
