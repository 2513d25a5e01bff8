// Package instance turns the operator's inventory (TOML) into validated
// instances: defaults merged, every check done that needs no host, sorted by
// name.
//
// It is pure: the same bytes give the same inventory on any machine, for any
// user. It never asks the host whether a path or an account exists; that is
// internal/host, which reports with the positions kept here. What follows from
// an instance (unit text, rules, configuration) is decided in internal/sandbox,
// internal/netpolicy and internal/config.
package instance

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/opencoded/opencoded/internal/destination"
	"github.com/opencoded/opencoded/internal/document"
)

// Places on the host that are the same for every inventory.
const (
	// StateRoot is the default parent of the state directories.
	StateRoot = "/var/lib/opencode/instance-state"
	// UnitDir is the default directory of the unit files.
	UnitDir = "/etc/systemd/system"
	// DataDir is opencoded's own, root-only tree: configurations, passwords,
	// compiled egress policies.
	DataDir = "/var/lib/opencoded"
	// ConfigDir holds the inventory; no instance sees it.
	ConfigDir = "/etc/opencode"
)

// Inventory is one validated file.
type Inventory struct {
	Name      string // as whoever asked named the file; what it names is relative to it
	File      string // absolute
	Host      Host
	Instances []*Instance // sorted by name; disabled ones included
}

// Enabled returns the instances that shall exist on the host.
func (inv *Inventory) Enabled() []*Instance {
	var out []*Instance
	for _, i := range inv.Instances {
		if i.Enable {
			out = append(out, i)
		}
	}
	return out
}

// Get returns an instance by name, or nil.
func (inv *Inventory) Get(name string) *Instance {
	for _, i := range inv.Instances {
		if i.Name == name {
			return i
		}
	}
	return nil
}

// Host holds the settings of the [host] table.
type Host struct {
	Opencode  string    // absolute path; "" means: found in root's PATH
	StateRoot string    // parent of the state directories
	UnitDir   string    // where unit files are written
	UIDRange  *UIDRange // nil means: the system range of the host

	EgressLayout string // auto, per-instance, shared

	AutoApply     bool           // changes of the inventory are carried out by the daemon
	Operators     []string       // users, and groups with a leading @
	MetricsListen netip.AddrPort // zero: a Unix socket only
	positions
}

// UIDRange bounds the user and group ids of the accounts that opencoded makes,
// both ends included.
type UIDRange struct {
	First, Last uint32
}

// Instance is one opencode server with everything that the inventory says of
// it. Derived defaults (user, state directory) are filled in.
type Instance struct {
	Name   string
	Enable bool

	Opencode  string // absolute path; "" means: as the host's
	Directory string // project root
	StateDir  string // HOME of the service

	User        string
	Group       string // "" means: the primary group of a user that the inventory names
	ExtraGroups []string

	Listen       Listen
	OpenFirewall bool
	Auth         bool

	Environment      []Variable // in the order of the file
	EnvironmentFiles []Path
	Credentials      []Credential
	Path             []string // put in front of PATH

	LogLevel  string // DEBUG, INFO, WARN, ERROR; "" means opencode's own default
	Model     string // "provider/model"; "" when not given
	ExtraArgs []string

	Layers     []Layer // of its configuration, the earliest first: those of the defaults, then its own
	ConfigFile string  // used instead of a generated file; "" when not given
	ConfigLock bool

	Hooks     Hooks
	Sandbox   Sandbox
	Network   Network
	Resources Resources

	StartTimeout time.Duration // from started to healthy
	Health       Health
	Restart      string      // systemd's Restart=: on-failure, always, no
	Unit         []Directive // raw directives, in the order of the file

	Pos document.Pos // where the instance is named
	positions

	provider string // joined to Model by complete
}

// ServiceName is the systemd unit of the server.
func (i *Instance) ServiceName() string { return ServiceName(i.Name) }

// SetupName is the systemd unit that runs before it.
func (i *Instance) SetupName() string { return SetupName(i.Name) }

// ServiceName is the systemd unit of the server of an instance.
func ServiceName(name string) string { return "opencode-" + name + ".service" }

// SetupName is the systemd unit that prepares an instance.
func SetupName(name string) string { return "opencode-" + name + "-setup.service" }

// UserName is the account that an instance has unless the inventory names another.
func UserName(name string) string { return "opencode-" + name }

// Listen is the address that the server binds.
type Listen struct {
	Address netip.Addr
	Port    uint16
}

func (l Listen) String() string {
	return netip.AddrPortFrom(l.Address, l.Port).String()
}

// Layer is one layer of a configuration: a file, or a table of the inventory.
type Layer struct {
	File  string          // as written: absolute, or relative to the inventory
	Table *document.Table // instead of a file: keys of opencode.json, or names of agents, skills and commands
	Pos   document.Pos    // where a file is named
}

// Variable is one environment variable.
type Variable struct {
	Name, Value string
}

// Path is an absolute path that may be marked optional with a leading "-".
type Path struct {
	Path     string
	Optional bool
}

// Credential is a secret that systemd puts into $CREDENTIALS_DIRECTORY, where only
// the instance can read it.
type Credential struct {
	Name, Path string
	Encrypted  bool // with systemd-creds(1), for this host
}

// Hooks are shell scripts that run in the instance's sandbox before and after
// the managed set-up steps; "" when not given.
type Hooks struct {
	PreInit, PostInit string
}

// Sandbox lists what an instance sees besides its directory and state.
type Sandbox struct {
	ReadWritePaths    []Path
	ReadOnlyPaths     []Path
	InaccessiblePaths []Path
	UnixSockets       []string // sockets, or their directories
	Protect           []string // what of the project is read-only although the rest can be written
	AllowNamespaces   bool     // bubblewrap and the like work inside
}

// Network is the egress policy.
type Network struct {
	Enable  bool
	Mode    string                    // enforce; report blocks nothing, and logs and counts
	DNS     bool                      // port 53 of this host can be reached
	Allow   []destination.Destination // as written, host bits cleared
	OnBlock string                    // drop, reject
	LogRate string                    // as nft spells it: "5/minute"
}

// Enforced reports whether anything is blocked at all.
func (n Network) Enforced() bool { return n.Enable && n.Mode != "report" }

// Resources are systemd's limits, in systemd's spelling; "" means no limit of
// its own.
type Resources struct {
	MemoryMax, MemoryHigh, CPUQuota, TasksMax, NOFile string

	StateMax uint64 // bytes that the state directory may take, in whole pages of 4 KiB; 0 means no limit
}

// Health is how the daemon finds out that a running server hangs.
type Health struct {
	Interval time.Duration // from one probe to the next
	Timeout  time.Duration // of one probe
	Failures int           // in a row, until it is restarted; 0: never
}

// Directive is a raw line of a unit file.
type Directive struct {
	Section, Key, Value string
	Pos                 document.Pos
}

// positions remembers where each key was set, and which could not be read.
type positions struct {
	at      map[string]document.Pos
	refused map[string]bool
}

// At is where a key was set, for messages of later checks; an element of a list
// is "sandbox.read_only_paths.0". Where the key was not set, it is where the
// instance is named.
func (i *Instance) At(key string) document.Pos {
	if pos, ok := i.at[key]; ok {
		return pos
	}
	return i.Pos
}

// At is where a key of [host] was set.
func (h *Host) At(key string) document.Pos { return h.at[key] }

func (p *positions) where() *positions { return p }

func (p *positions) set(key string, pos document.Pos) {
	if p.at == nil {
		p.at = map[string]document.Pos{}
	}
	p.at[key] = pos
}

// refuse marks a key whose value was an error: later checks say nothing about
// the default that stands in its place.
func (p *positions) refuse(key string) {
	if p.refused == nil {
		p.refused = map[string]bool{}
	}
	p.refused[key] = true
}

func element(key string, i int) string { return key + "." + strconv.Itoa(i) }
