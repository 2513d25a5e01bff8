package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/opencoded/opencoded/internal/destination"
	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/lazy"
	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/internal/sandbox"
)

// checker holds an inventory against the host and keeps what it read.
type checker struct {
	inv      *instance.Inventory
	i        *instance.Instance
	facts    *plan.Facts
	problems document.Diagnostics
}

func (c *checker) run() {
	if os.Geteuid() == 0 {
		c.trust(document.Pos{File: c.inv.File}, "the inventory", c.inv.File)
		if err := trusted(c.facts.Sandbox.Opencoded); err != nil {
			c.problems.Add(document.Error, document.Pos{}, "install it, for example with `make install`",
				"opencoded is run by root at every start of an instance, but %v", err)
		}
	}
	nameservers := nameservers("/etc/resolv.conf")
	for _, i := range c.inv.Instances {
		c.i = i
		c.foreignFiles()
		c.binary()
		c.account()
		c.environmentFiles()
		c.credentials()
		c.configFile()
		c.directory()
		c.repository()
		c.stateDir()
		c.stateMax()
		c.sandboxPaths()
		c.resolver(nameservers)
	}
}

func (c *checker) fail(key, hint, format string, args ...any) {
	c.add(document.Error, key, hint, format, args...)
}

func (c *checker) warn(key, hint, format string, args ...any) {
	c.add(document.Warning, key, hint, format, args...)
}

func (c *checker) add(s document.Severity, key, hint, format string, args ...any) {
	c.problems.Add(s, c.i.At(key), hint, "instances.%s.%s: %s", c.i.Name, key, fmt.Sprintf(format, args...))
}

func (c *checker) trust(pos document.Pos, what, path string) bool {
	err := trusted(path)
	if err == nil {
		return true
	}
	message, remedy, _ := strings.Cut(err.Error(), ": ")
	if remedy == "" || isNotExist(err) {
		message, remedy = err.Error(), ""
	}
	c.problems.Add(document.Error, pos, remedy, "cannot trust %s: %s", what, message)
	return false
}

// foreignFiles refuses to touch what somebody else put where opencoded writes.
func (c *checker) foreignFiles() {
	i := c.i
	for _, p := range []string{
		filepath.Join(c.inv.Host.UnitDir, i.ServiceName()), filepath.Join(c.inv.Host.UnitDir, i.SetupName()), plan.FragmentPath(i.Name),
	} {
		info, err := os.Lstat(p)
		if err != nil {
			continue // absent: nothing in the way
		}
		text, err := os.ReadFile(p)
		if info.Mode().IsRegular() && (err != nil || strings.HasPrefix(string(text), sandbox.Marker)) {
			continue
		}
		c.problems.Add(document.Error, i.Pos, "move it away, or give the instance another name",
			"instances.%s: %s exists and is not opencoded's", i.Name, p)
	}
}

func (c *checker) binary() {
	i := c.i
	b, seen := c.facts.Binaries[i.Opencode]
	if !seen {
		var err error
		if b, err = findBinary(i.Opencode); err != nil {
			c.fail("opencode", "install opencode, or set host.opencode to where it is", "%v", err)
			return
		}
		c.facts.Binaries[i.Opencode] = b
	}
	if p := c.instanceIdentity().replaceable(b.Resolved); p != "" {
		c.fail("opencode", "let root own it", "%s can be changed by the instance itself (%s)", b.Resolved, p)
	}
}

// instanceIdentity is who the instance will be. An account that does not exist
// yet owns nothing and is in no group but its own.
func (c *checker) instanceIdentity() identity {
	id := identity{uid: ^uint32(0)}
	if a, ok := c.facts.Accounts[c.i.User]; ok {
		id.uid, id.gids = a.UID, []uint32{a.GID}
	}
	for _, g := range append([]string{c.i.Group}, c.i.ExtraGroups...) {
		if gid, ok := c.facts.Groups[g]; ok {
			id.gids = append(id.gids, gid)
		}
	}
	return id
}

func (c *checker) account() {
	a, exists := c.facts.Accounts[c.i.User]
	switch {
	case exists && a.UID == 0:
		c.fail("user", "name another", "%q is root by another name", c.i.User)
	case exists && !a.Ours && canLogIn(a.Shell):
		c.fail("user", "leave user out to get an account of its own, or name one without a login shell",
			"%q can log in (its shell is %s): an agent would act as that person", c.i.User, a.Shell)
	}
	if _, ok := c.facts.Groups[c.i.Group]; c.i.Group != "" && !ok && exists && !a.Ours {
		c.fail("group", "create it with groupadd, or leave group out", "there is no group %q", c.i.Group)
	}
	for n, g := range c.i.ExtraGroups {
		if _, ok := c.facts.Groups[g]; !ok {
			c.fail(fmt.Sprintf("extra_groups.%d", n), "create it with groupadd, or remove it from the list", "there is no group %q", g)
		}
	}
}

func canLogIn(shell string) bool {
	switch filepath.Base(shell) {
	case "nologin", "false":
		return false
	}
	return true
}

func (c *checker) environmentFiles() {
	for n, f := range c.i.EnvironmentFiles {
		key := fmt.Sprintf("environment_file.%d", n)
		text, err := os.ReadFile(f.Path)
		switch {
		case isNotExist(err) && f.Optional:
			continue
		case isNotExist(err):
			c.fail(key, `create it, or mark it as optional with a leading "-"`, "%s does not exist", f.Path)
			continue
		case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
			continue // as it should be
		case err != nil:
			c.fail(key, "make it a regular file that root can read", "cannot read it: %v", err)
			continue
		}
		c.facts.Environment[f.Path] = text
		if os.Geteuid() == 0 {
			c.trust(c.i.At(key), "environment file "+f.Path, f.Path)
		}
		if info, err := os.Stat(f.Path); err == nil && info.Mode().Perm()&0o044 != 0 {
			c.warn(key, "chmod 600 "+f.Path, "%s can be read by others (%04o)", f.Path, info.Mode().Perm())
		}
		c.variables(key, f.Path, string(text))
	}
}

func (c *checker) credentials() {
	for _, cr := range c.i.Credentials {
		text, err := os.ReadFile(cr.Path)
		switch {
		case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
			continue // as it should be
		case err != nil:
			c.fail(cr.Key(), "create it as a regular file that root can read, or remove the credential", "cannot read it: %v", err)
			continue
		}
		c.facts.Credentials[cr.Path] = text
		if os.Geteuid() == 0 {
			c.trust(c.i.At(cr.Key()), "credential "+cr.Path, cr.Path)
		}
		if info, err := os.Stat(cr.Path); err == nil && info.Mode().Perm()&0o044 != 0 && !cr.Encrypted {
			c.warn(cr.Key(), "chmod 600 "+cr.Path, "%s can be read by others (%04o)", cr.Path, info.Mode().Perm())
		}
	}
}

var assignment = lazy.MustCompile(`(?m)^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=`)

// variables refuses those that would undo what opencoded sets. Secrets are not
// shown: only names are.
func (c *checker) variables(key, path, text string) {
	for _, m := range assignment.FindAllStringSubmatch(text, -1) {
		if remedy, owned := instance.Owned(m[1]); owned {
			c.fail(key, remedy, "%s sets %s, which opencoded owns", path, m[1])
		}
	}
}

func (c *checker) configFile() {
	p := c.i.ConfigFile
	if p == "" {
		return
	}
	text, err := os.ReadFile(p)
	if err != nil {
		c.fail("config_file", "create it, or leave config_file out", "cannot read it: %v", err)
		return
	}
	c.facts.ConfigFiles[p] = text
	if os.Geteuid() == 0 {
		c.trust(c.i.At("config_file"), "configuration file "+p, p)
	}
}

// configuredFiles must be there when opencode starts, if the instance sees them
// at all (internal/config warns where it does not).
func (c *checker) configuredFiles() {
	for _, i := range c.inv.Instances {
		for _, r := range c.facts.Bundles[i.Name].FileReferences() {
			if sandbox.Visible(i, r.Path) && !under(r.Path, i.StateDir, i.Directory) && isMissing(r.Path) {
				c.problems.Add(document.Error, r.Pos, "create it", "instances.%s: opencode refuses a configuration with {file:%s}, which does not exist", i.Name, r.Path)
			}
		}
	}
}

func (c *checker) directory() {
	i := c.i
	info, err := os.Stat(i.Directory)
	switch {
	case isNotExist(err):
		return // it will be created
	case err != nil:
		c.fail("directory", "", "%v", err)
		return
	case !info.IsDir():
		c.fail("directory", "name a directory", "%s is not a directory", i.Directory)
		return
	}
	if id := c.instanceIdentity(); !id.canWrite(info) {
		c.warn("directory", "run: "+strings.Join(grant(i, info), " && "),
			"%s belongs to %s and cannot be written by %s", i.Directory, ownerName(info), i.User)
	}
	c.ignoredSettings()
}

// grant is what gives the instance the directory without taking anything from
// its owner: default entries for both, so that each can change what the other
// makes.
func grant(i *instance.Instance, info fs.FileInfo) []string {
	owner := ownerName(info)
	return []string{
		fmt.Sprintf("setfacl -R -m u:%s:rwX %s", i.User, quote(i.Directory)),
		fmt.Sprintf("setfacl -R -d -m u:%s:rwX,u:%s:rwX %s", i.User, owner, quote(i.Directory)),
	}
}

func ownerName(info fs.FileInfo) string {
	return userName(info.Sys().(*syscall.Stat_t).Uid)
}

// quote makes a path one word of a shell command.
func quote(path string) string {
	if !strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("/._-+,:@%", r) && !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	}) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// ignoredSettings tells that a locked configuration leaves a project's own
// settings out.
func (c *checker) ignoredSettings() {
	if !c.i.ConfigLock {
		return
	}
	for _, name := range []string{"opencode.json", "opencode.jsonc", ".opencode"} {
		if _, err := os.Lstat(filepath.Join(c.i.Directory, name)); err == nil {
			c.add(document.Note, "directory", "move what you trust into config, or set config_lock = false",
				"%s is ignored: the configuration is locked", filepath.Join(c.i.Directory, name))
		}
	}
}

// stateDir makes sure that nobody but root could put something else in the
// place of the state directory.
func (c *checker) stateDir() {
	i := c.i
	parent := filepath.Dir(i.StateDir)
	for isMissing(parent) {
		parent = filepath.Dir(parent)
	}
	if os.Geteuid() == 0 {
		c.trust(i.At("state_dir"), fmt.Sprintf("the parent of the state directory of instances.%s", i.Name), parent)
	}
	info, err := os.Lstat(i.StateDir)
	if err != nil {
		return
	}
	if !info.IsDir() {
		c.fail("state_dir", "move it away", "%s is not a directory", i.StateDir)
		return
	}
	st := info.Sys().(*syscall.Stat_t)
	a, exists := c.facts.Accounts[i.User]
	if st.Uid != 0 && (!exists || st.Uid != a.UID) {
		c.fail("state_dir", "choose another, or move it away", "%s belongs to %s", i.StateDir, userName(st.Uid))
	}
}

func isMissing(path string) bool {
	_, err := os.Lstat(path)
	return isNotExist(err)
}

func (c *checker) sandboxPaths() {
	s := c.i.Sandbox
	for _, l := range []struct {
		key   string
		paths []instance.Path
	}{
		{"sandbox.read_write_paths", s.ReadWritePaths}, {"sandbox.read_only_paths", s.ReadOnlyPaths},
		{"sandbox.inaccessible_paths", s.InaccessiblePaths},
	} {
		for n, p := range l.paths {
			if !p.Optional && isMissing(p.Path) {
				c.fail(fmt.Sprintf("%s.%d", l.key, n), `create it, or mark it as optional with a leading "-"`, "%s does not exist", p.Path)
			}
		}
	}
	for n, p := range s.UnixSockets {
		if info, err := os.Stat(p); err == nil && info.Mode().Type() == fs.ModeSocket {
			c.add(document.Note, fmt.Sprintf("sandbox.unix_sockets.allow.%d", n), "allow its directory, "+filepath.Dir(p),
				"%s goes stale when its server restarts", p)
		}
	}
}

// resolver warns when an instance may not reach the servers that resolve its
// names: that looks like a broken network, and is a policy.
func (c *checker) resolver(nameservers []netip.Addr) {
	n := c.i.Network
	if !n.Enforced() || !n.DNS || len(nameservers) == 0 {
		return
	}
	for _, s := range nameservers {
		query := destination.Destination{Network: netip.PrefixFrom(s, s.BitLen()), Port: 53, Protocol: destination.UDP}
		if s.IsLoopback() || slices.ContainsFunc(n.Allow, func(d destination.Destination) bool { return d.Covers(query) }) {
			return
		}
	}
	// Without the instance's name: inherited from [defaults] it is one mistake.
	const key = "network_isolation.outbound_allow_cidrs"
	c.problems.Add(document.Warning, c.i.At(key), fmt.Sprintf("add %q, or run a resolver on loopback", nameservers[0]),
		"%s: names will not resolve: no name server of /etc/resolv.conf is allowed", key)
}

// nameservers are the servers that a resolv.conf(5) names.
func nameservers(path string) []netip.Addr {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil // none: the resolver of the C library asks 127.0.0.1
	}
	var out []netip.Addr
	for l := range strings.Lines(string(text)) {
		f := strings.Fields(l)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			out = append(out, a.WithZone("").Unmap())
		}
	}
	return out
}
