package sandbox

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/destination"
	"github.com/opencoded/opencoded/internal/instance"
)

const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// common is what the server and its set-up share: who they are, where they run,
// what their environment holds, and the egress rules before anything else.
func (u *unit) common(in Input) {
	i := in.Instance
	u.set("Slice", Slice)
	u.set("User", verbatim(i.User))
	if i.Group != "" {
		u.set("Group", verbatim(i.Group))
	}
	u.list("SupplementaryGroups", each(i.ExtraGroups, verbatim))
	u.set("WorkingDirectory", verbatim(i.Directory))
	// Without the rules nothing of the instance starts. "+": as root, outside of
	// the sandbox; RootDirectoryStartOnly= keeps it on the host's own root.
	u.command("ExecStartPre", "+", in.Host.Opencoded, "net", "ensure", i.Name)
	u.set("SyslogIdentifier", verbatim("opencode-"+i.Name))
	u.set("LogExtraFields", word("INSTANCE="+i.Name))
	for _, v := range environment(in) {
		u.set("Environment", word(v.Name+"="+v.Value))
	}
	if i.Auth {
		u.set("EnvironmentFile", pattern(LayoutOf(i.Name).Password))
	}
	// After the generated password: an environment file may set its own.
	for _, f := range i.EnvironmentFiles {
		u.set("EnvironmentFile", value(dash(f.Optional))+pattern(f.Path))
	}
	for _, c := range i.Credentials {
		key := "LoadCredential"
		if c.Encrypted {
			key = "LoadCredentialEncrypted"
		}
		u.set(key, value(c.Name+":")+verbatim(c.Path))
	}
	u.limits(i.Resources)
}

// confined runs a program as the instance, by way of internal/confine.
func (u *unit) confined(in Input, argv ...string) {
	u.command("ExecStart", "", in.Host.Opencoded, append([]string{"confine", "--"}, argv...)...)
}

func environment(in Input) []instance.Variable {
	i := in.Instance
	path := strings.Join(append(slices.Clone(i.Path), systemPath), ":")
	env := []instance.Variable{
		{Name: "HOME", Value: i.StateDir},
		// The account's own shell is nologin; opencode runs commands with $SHELL.
		{Name: "SHELL", Value: in.Host.Shell},
		{Name: "PATH", Value: path},
		{Name: "OPENCODED_PATH", Value: path}, // for ~/.profile, see managed.sh
		{Name: "LANG", Value: "C.UTF-8"},
		{Name: "OPENCODE_DISABLE_AUTOUPDATE", Value: "1"},
	}
	if i.ConfigLock {
		env = append(env, instance.Variable{Name: "OPENCODE_DISABLE_PROJECT_CONFIG", Value: "1"})
	}
	env = append(env, i.Environment...)
	return append(env, instance.Variable{Name: generationVariable, Value: in.Generation})
}

const generationVariable = "OPENCODED_GENERATION"

// GenerationOf finds the generation in the text of a unit; "" if it has none.
func GenerationOf(unit string) string {
	_, rest, _ := strings.Cut(unit, generationVariable+"=")
	end := strings.IndexAny(rest, "\"\n")
	return rest[:max(end, 0)]
}

func (u *unit) limits(r instance.Resources) {
	for _, l := range []struct{ key, value string }{
		{"MemoryMax", r.MemoryMax}, {"MemoryHigh", r.MemoryHigh}, {"CPUQuota", r.CPUQuota},
		{"TasksMax", r.TasksMax}, {"LimitNOFILE", r.NOFile},
	} {
		if l.value != "" {
			// As it stands: systemd expands no specifiers here, and ignores a limit
			// of "150%%". The inventory admits nothing but numbers and units.
			u.set(l.key, value(l.value))
		}
	}
}

// sandbox is what the instance sees. Its root is an empty tree into which only
// what is listed here is bound; extra are further read-only binds.
func (u *unit) sandbox(in Input, extra []value) {
	i, l := in.Instance, LayoutOf(in.Instance.Name)
	u.set("RootDirectory", verbatim(l.Root))
	u.set("RootDirectoryStartOnly", "yes")
	u.set("MountAPIVFS", "yes")

	u.list("BindReadOnlyPaths", each(systemPaths, word))
	u.list("InaccessiblePaths", each(hiddenPaths, word))
	if !i.Network.Enforced() || i.Network.DNS {
		u.list("BindReadOnlyPaths", resolution(in.Host))
	}
	for _, program := range []string{in.Host.Opencoded, in.Opencode} {
		if !slices.ContainsFunc(systemPaths, func(p string) bool { return strings.HasPrefix(program, p[1:]+"/") }) {
			u.set("BindReadOnlyPaths", word(program))
		}
	}
	u.list("BindReadOnlyPaths", extra)
	u.set("BindPaths", words(word(i.StateDir), word(i.Directory)))
	u.configuration(i, l)
	u.paths(i)
	u.protect(i, in.Protect)
	u.hardening(in.Host.SystemdVersion, i.Sandbox.AllowNamespaces)
	u.addresses(i)
}

// resolution is what name resolution needs besides /etc: the directory of a
// resolv.conf that is a symlink (a bound file would go stale when it is
// replaced), and the caching daemon's socket, which the C library looks for in
// /var/run. Both hold sockets that resolve for whoever connects, so they are
// absent where port 53 is closed.
func resolution(h Host) []value {
	var out []value
	if h.ResolvDir != "" {
		out = append(out, word("-"+h.ResolvDir))
	}
	return append(out, "-/run/nscd", "-/run/nscd:/var/run/nscd")
}

// configuration puts the generated opencode.json in place, read-only, and hides
// the host's /etc/opencode. ~/.config is bound on itself because a mount cannot
// be renamed, and something else put in its place. A locked configuration is
// also the one that opencode reads last, and ~/.opencode is empty for good.
func (u *unit) configuration(i *instance.Instance, l Layout) {
	home := func(p string) string { return filepath.Join(i.StateDir, p) }
	u.set("TemporaryFileSystem", verbatim(instance.ConfigDir+":ro"))
	u.set("BindPaths", word(home(".config")))
	if i.ConfigLock {
		u.set("BindReadOnlyPaths", bind(l.ConfigFile(), filepath.Join(instance.ConfigDir, "opencode.json")))
		u.set("BindReadOnlyPaths", bind(l.Empty, home(".opencode")))
	}
	u.set("BindReadOnlyPaths", bind(l.Config, home(".config/opencode")))
}

func (u *unit) paths(i *instance.Instance) {
	s := i.Sandbox
	writable := []value{word("+" + i.StateDir), word("+" + i.Directory)}
	for _, p := range s.ReadWritePaths {
		u.set("BindPaths", word(dash(p.Optional)+p.Path))
		writable = append(writable, word(dash(p.Optional)+"+"+p.Path))
	}
	u.set("ReadWritePaths", words(writable...))
	for _, p := range s.ReadOnlyPaths {
		u.set("BindReadOnlyPaths", word(dash(p.Optional)+p.Path))
		u.set("ReadOnlyPaths", word(dash(p.Optional)+"+"+p.Path))
	}
	for _, p := range s.InaccessiblePaths {
		if holdsGiven(i, p.Path) && !strings.Contains(p.Path, ":") { // which would begin the options
			// Into an empty file system what is given can be bound; below an
			// inaccessible path systemd leaves it out.
			u.set("TemporaryFileSystem", word(p.Path)+":ro")
			continue
		}
		// "-": what is not even visible needs no hiding.
		u.set("InaccessiblePaths", word("-+"+p.Path))
	}
	// Connecting needs no write access to the directory, so read-only it is. A
	// server that is not up yet has no socket: no reason not to start.
	for _, p := range s.UnixSockets {
		u.set("BindReadOnlyPaths", word("-"+p))
	}
}

// holdsGiven reports whether something that the instance is given lies below a path.
func holdsGiven(i *instance.Instance, path string) bool {
	below := func(p string) bool { return strings.HasPrefix(p, path+"/") }
	given := func(p instance.Path) bool { return below(p.Path) }
	return slices.ContainsFunc(i.Sandbox.ReadOnlyPaths, given) || slices.ContainsFunc(i.Sandbox.ReadWritePaths, given) ||
		slices.ContainsFunc(i.Sandbox.UnixSockets, below)
}

// addresses has systemd enforce the egress policy too, even while nftables is
// empty. It filters both directions, so for a listener that others connect to it
// would refuse the clients: there the table of internal/netpolicy stands alone.
func (u *unit) addresses(i *instance.Instance) {
	if !SystemdFilters(i) {
		// Not nothing: without any of these directives a reload leaves the filter of
		// a running unit as it was (systemd 252), and a policy that was lifted stays.
		u.set("IPAddressAllow", "any")
		return
	}
	u.set("IPAddressDeny", "any")
	u.set("IPAddressAllow", "localhost")
	var networks []destination.Destination // it knows no ports
	for _, d := range i.Network.Allow {
		networks = append(networks, destination.Of(d.Network))
	}
	for _, d := range destination.Normalize(networks) {
		u.set("IPAddressAllow", verbatim(d.Network.String()))
	}
}

func bind(source, destination string) value { return word(source) + ":" + word(destination) }

func dash(optional bool) string {
	if optional {
		return "-"
	}
	return ""
}

func each(list []string, f func(string) value) []value {
	out := make([]value, len(list))
	for i, s := range list {
		out[i] = f(s)
	}
	return out
}

// SystemdFilters reports whether systemd enforces an instance's egress policy
// besides nftables, see addresses.
func SystemdFilters(i *instance.Instance) bool {
	return i.Network.Enforced() && i.Listen.Address.IsLoopback()
}
