package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/netpolicy"
	"github.com/opencoded/opencoded/internal/sandbox"
)

// Desire returns the state that the inventory wants. Findings of the
// configuration come back with their place; with an error among them the state
// is not usable.
func Desire(inv *instance.Inventory, facts Facts) (Desired, document.Diagnostics) {
	var problems document.Diagnostics
	d := Desired{Dirs: []Dir{
		{Path: instance.DataDir, Mode: 0o711},
		{Path: filepath.Join(instance.DataDir, "instances"), Mode: 0o711},
		{Path: instance.ConfigDir, Mode: 0o755, Adopt: true},
		{Path: FragmentDir, Mode: 0o755, Adopt: true},
		{Path: inv.Host.StateRoot, Mode: 0o755, Adopt: true},
		{Path: inv.Host.UnitDir, Mode: 0o755, Adopt: true},
	}}
	ids := newAllocator(facts)
	for _, i := range inv.Enabled() {
		ids.user(i, &problems)
	}
	var policies []netpolicy.Policy
	for _, i := range inv.Enabled() {
		b := builder{facts: facts, unitDir: inv.Host.UnitDir, i: i, layout: sandbox.LayoutOf(i.Name), problems: &problems}
		b.bindable()
		b.account(ids)
		b.files()
		b.policy()
		b.openings()
		b.quota()
		b.units()
		d.Targets = append(d.Targets, b.t)
		policies = append(policies, b.t.Policy)
	}
	d.Files = []File{{Path: KeyFile, Mode: 0o600, Content: string(facts.Key), Quiet: secretContent}}
	d.sockets(inv)
	d.rules(netpolicy.Rules{Layout: netpolicy.Layout(inv.Host.EgressLayout), Policies: policies}, &problems)
	return d, problems
}

const secretContent = "secret, not shown"

// sockets adds the list of what may have to be bound again.
func (d *Desired) sockets(inv *instance.Inventory) {
	allowed := map[string][]string{}
	for _, i := range inv.Enabled() {
		if paths := sandbox.BoundSockets(i); len(paths) > 0 {
			allowed[i.Name] = paths
		}
	}
	text, _ := json.MarshalIndent(allowed, "", "\t") // strings alone
	d.Files = append(d.Files, File{Path: SocketsFile, Mode: 0o600, Content: string(text) + "\n", Quiet: "compiled form of the allowed sockets"})
}

// rules adds the tables, and the compiled policies from which they can be made
// again.
func (d *Desired) rules(r netpolicy.Rules, problems *document.Diagnostics) {
	compiled, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		problems.Errorf(document.Pos{}, "internal error: cannot encode the egress policies: %v", err)
	}
	d.Files = append(d.Files, File{
		Path: PoliciesFile, Mode: 0o600, Content: string(compiled) + "\n", Quiet: "compiled form of the egress rules",
	})
	tables, err := r.Tables()
	if err != nil {
		problems.Errorf(document.Pos{}, "cannot write the egress rules: %v", err)
	}
	for _, t := range tables {
		switch t.Name {
		case netpolicy.GuardTable:
			d.Guard = &t
		case netpolicy.SharedTable:
			d.Shared = &t
		default:
			target := d.Target(strings.TrimPrefix(t.Name, netpolicy.EgressTable("")))
			target.Egress = &t
		}
	}
}

// builder makes the target of one instance.
type builder struct {
	facts    Facts
	unitDir  string
	i        *instance.Instance
	layout   sandbox.Layout
	t        Target
	problems *document.Diagnostics
}

func (b *builder) fail(key string, err error) {
	b.problems.Add(document.Error, b.i.At(key), "", "instances.%s: %v", b.i.Name, err)
}

// account takes the existing account or the ids chosen for a new one, so that a
// plan shows the very rules that will be loaded.
func (b *builder) account(ids *allocator) {
	i := b.i
	b.t.Instance = i
	a, exists := b.facts.Accounts[i.User]
	if !exists {
		a = Account{User: i.User, UID: ids.users[i.User], Home: i.StateDir, Ours: true}
	}
	missing := !exists
	if i.Group != "" || !exists {
		a.Group = cmp.Or(i.Group, i.User)
		if _, ok := b.facts.Groups[a.Group]; !ok {
			missing = true
			if !a.Ours {
				b.problems.Add(document.Error, i.At("group"), "create it with groupadd, or leave group out",
					"instances.%s.group: there is no group %q, and opencoded makes groups only for its own accounts", i.Name, a.Group)
			}
		}
		a.GID = ids.group(a, b.problems, i.At("group"))
	}
	b.t.Account, b.t.NewAccount = a, missing
	if a.Ours {
		b.t.Files = append(b.t.Files, File{Path: FragmentPath(i.Name), Mode: 0o644, Content: b.fragment(a)})
	}
}

// fragment declares the account in the form of sysusers.d(5). systemd-sysusers
// 252 wants the group declared before the user that names its id.
func (b *builder) fragment(a Account) string {
	var s strings.Builder
	fmt.Fprintln(&s, sandbox.Marker)
	primary, ok := b.facts.Groups[a.User]
	if !ok {
		primary = a.UID
	}
	fmt.Fprintf(&s, "g %s %d\n", a.User, primary)
	fmt.Fprintf(&s, "u %s %d:%d %q %s\n", a.User, a.UID, primary, AccountComment(b.i.Name), escapeField(b.i.StateDir))
	if a.Group != "" && a.Group != a.User {
		fmt.Fprintf(&s, "g %s %d\n", a.Group, a.GID)
	}
	return s.String()
}

// escapeField keeps a path one field: sysusers.d(5) splits at white space and
// expands specifiers.
func escapeField(path string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%").Replace(path) + `"`
}

// files are the state directory, what opencoded keeps for the instance, and the
// project if it does not exist yet.
func (b *builder) files() {
	i, a, l := b.i, b.t.Account, b.layout
	state := func(name string, mode int) Dir {
		return Dir{Path: filepath.Join(i.StateDir, name), Mode: 0o700, UID: a.UID, GID: a.GID, Adopt: name != "", Below: i.StateDir}
	}
	b.t.Dirs = []Dir{
		{Path: l.Dir, Mode: 0o711},
		{Path: l.Root, Mode: 0o755},
		// systemd 252 enters the working directory below the root directory even
		// for a command that runs outside of it, before anything is mounted there.
		{Path: filepath.Join(l.Root, i.Directory), Mode: 0o755},
		{Path: l.Config, Mode: 0o750, GID: a.GID},
		{Path: l.Setup, Mode: 0o750, GID: a.GID},
		{Path: l.Empty, Mode: 0o755},
		{Path: i.StateDir, Mode: 0o700, UID: a.UID, GID: a.GID},
	}
	for _, name := range sandbox.HomeDirs {
		b.t.Dirs = append(b.t.Dirs, state(name, 0o700))
	}
	// Group-writable, so that people of the group can work beside the agent.
	b.t.Dirs = append(b.t.Dirs, Dir{Path: i.Directory, Mode: 0o770, UID: a.UID, GID: a.GID, Adopt: true})

	own := func(path, content string) File {
		return File{Path: path, Mode: 0o640, GID: a.GID, Content: content}
	}
	b.configuration()
	b.t.Files = append(b.t.Files, File{Path: filepath.Join(l.Empty, ".gitignore"), Mode: 0o644, Content: "*\n"})
	scripts := sandbox.Scripts(i)
	for _, name := range sortedKeys(scripts) {
		f := own(filepath.Join(l.Setup, name), scripts[name])
		if name == sandbox.Managed {
			f.Quiet = "the same for every instance"
		}
		b.t.Files = append(b.t.Files, f)
	}
	if i.Auth {
		b.t.Files = append(b.t.Files, File{Path: l.Password, Mode: 0o600, Content: b.password(), Quiet: secretContent})
	}
	b.t.Link = Link{Below: i.StateDir, Name: ".config/opencode/opencode.json", Target: l.ConfigFile()}
}

func (b *builder) password() string { return PasswordFile(b.facts.Passwords[b.i.Name]) }

// PasswordFile is the environment file that gives a server its password.
func PasswordFile(password string) string { return "OPENCODE_SERVER_PASSWORD=" + password + "\n" }

func (b *builder) policy() {
	i := b.i
	rate, err := netpolicy.ParseRate(i.Network.LogRate)
	if err != nil {
		b.fail("network_isolation.log_rate", err)
	}
	b.t.Policy = netpolicy.Policy{
		Name: i.Name, User: i.User, UID: b.t.Account.UID, Port: i.Listen.Port, Locked: i.ConfigLock,
		Isolated: i.Network.Enable, Filtered: sandbox.SystemdFilters(i), Allow: i.Network.Allow,
		Report: i.Network.Mode == "report", NoDNS: !i.Network.DNS,
		OnBlock: netpolicy.OnBlock(i.Network.OnBlock), LogRate: rate,
	}
}

// units renders both units twice: once without a generation to hash them, once
// with it.
func (b *builder) units() {
	in := sandbox.Input{Host: b.facts.Sandbox, Instance: b.i}
	in.Protect = sandbox.Protected(b.i, b.facts.Repository[b.i.Name])
	// Where a link leads is no part of a unit's identity: an upgrade of opencode behind it restarts nothing.
	in.Opencode = cmp.Or(b.i.Opencode, "/opencode")
	b.t.Generation = b.generation(b.render(&in))
	b.t.Binary = b.facts.Binaries[b.i.Opencode]
	in.Opencode = b.t.Binary.Resolved
	in.Generation = b.t.Generation.String()
	text := b.render(&in)
	b.t.Units = []File{
		{Path: filepath.Join(b.unitDir, b.i.SetupName()), Mode: 0o644, Content: text[0]},
		{Path: filepath.Join(b.unitDir, b.i.ServiceName()), Mode: 0o644, Content: text[1]},
	}
}

func (b *builder) render(in *sandbox.Input) [2]string {
	setup, err := sandbox.Setup(*in)
	if err != nil {
		b.fail("", err)
	}
	service, err := sandbox.Service(*in)
	if err != nil {
		b.fail("", err)
	}
	return [2]string{setup, service}
}

func (b *builder) generation(units [2]string) Generation {
	key, i := b.facts.Key, b.i
	environment := []string{}
	if i.Auth {
		environment = append(environment, b.password())
	}
	for _, f := range i.EnvironmentFiles {
		environment = append(environment, f.Path, string(b.facts.Environment[f.Path]))
	}
	secrets := []string{}
	for _, c := range i.Credentials {
		secrets = append(secrets, c.Name, string(b.facts.Credentials[c.Path]))
	}
	scripts := sandbox.Scripts(i)
	var hooks []string
	for _, name := range sortedKeys(scripts) {
		hooks = append(hooks, name, scripts[name])
	}
	return Generation{
		// Whose id the account has is no part of the text, and a process keeps the one that it started with.
		hash(key, partUnit, sandbox.Identity(units[0]), sandbox.Identity(units[1]), fmt.Sprint(b.t.Account.UID, b.t.Account.GID)),
		hash(key, partConfiguration, b.configured()...),
		hash(key, "environment file", environment...),
		hash(key, "credential", secrets...),
		hash(key, partSetup, hooks...),
		hash(key, partBinary, b.facts.Binaries[i.Opencode].Stamp),
		hash(key, partAuthor, b.facts.Author),
	}
}

// configured is all that opencode reads of its configuration when it starts.
// tui.json is the terminal's, not the server's.
func (b *builder) configured() []string {
	text := []string{b.file(b.layout.ConfigFile()).Content}
	for _, f := range b.t.Files {
		name, below := strings.CutPrefix(f.Path, b.layout.Config+"/")
		if below && name != "opencode.json" && name != "tui.json" && name != ".gitignore" {
			text = append(text, name, f.Mode.String(), f.Content)
		}
	}
	return text
}

func (b *builder) file(path string) File {
	n := slices.IndexFunc(b.t.Files, func(f File) bool { return f.Path == path })
	return b.t.Files[n]
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// allocator hands out ids that neither a user nor a group has. Users come first,
// all of them: an instance may name the group of another.
type allocator struct {
	taken  map[uint32]bool
	ids    instance.UIDRange
	users  map[string]uint32
	groups map[string]uint32
}

func newAllocator(f Facts) *allocator {
	a := &allocator{taken: maps.Clone(f.Taken), ids: f.IDs, users: map[string]uint32{}, groups: maps.Clone(f.Groups)}
	if a.taken == nil {
		a.taken = map[uint32]bool{}
	}
	if a.groups == nil {
		a.groups = map[string]uint32{}
	}
	for name, account := range f.Accounts {
		a.users[name] = account.UID
	}
	return a
}

// user chooses the id of a new account, which is also that of its own group.
func (a *allocator) user(i *instance.Instance, problems *document.Diagnostics) {
	if _, ok := a.users[i.User]; ok {
		return
	}
	id := a.next(i.User, problems, i.At("user"))
	a.users[i.User] = id
	if _, ok := a.groups[i.User]; !ok {
		a.groups[i.User] = id
	}
}

// group is the id of the group that an account's service runs as.
func (a *allocator) group(account Account, problems *document.Diagnostics, pos document.Pos) uint32 {
	id, ok := a.groups[account.Group]
	switch {
	case ok:
		return id
	case account.Group == account.User: // lost; the fragment makes it again
		id = account.UID
	default:
		id = a.next(account.Group, problems, pos)
	}
	a.groups[account.Group] = id
	return id
}

// next goes downwards, as systemd-sysusers and useradd do for system accounts.
func (a *allocator) next(name string, problems *document.Diagnostics, pos document.Pos) uint32 {
	for id := a.ids.Last; id >= a.ids.First && id > 0; id-- {
		if !a.taken[id] {
			a.taken[id] = true
			return id
		}
	}
	problems.Add(document.Error, pos, "set host.uid_range to a free range, such as [70000, 79999]",
		"no free id for %q between %d and %d", name, a.ids.First, a.ids.Last)
	return 0
}
