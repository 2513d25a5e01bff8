package host

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/internal/sandbox"
)

// Facts gathers what plan.Desire must know, and checks the inventory against the
// host on the way: what exists, who owns it, who can write it. Every finding
// names its place in the inventory.
func (h *Host) Facts(ctx context.Context, inv *instance.Inventory) (plan.Facts, document.Diagnostics, error) {
	f, problems, err := gather(ctx, inv)
	if err == nil {
		err = readSecrets(inv, &f)
	}
	if err != nil {
		return f, problems, err
	}
	h.readFirewalls(ctx, inv, &f, &problems)
	f.Sandbox.SystemdVersion, err = h.systemdVersion()
	return f, problems, err
}

// Validate checks an inventory against the host without a connection to systemd:
// the part of Facts that `validate --host` is about.
func Validate(ctx context.Context, inv *instance.Inventory) (document.Diagnostics, error) {
	_, problems, err := gather(ctx, inv)
	return problems, err
}

func gather(ctx context.Context, inv *instance.Inventory) (plan.Facts, document.Diagnostics, error) {
	f := plan.Facts{
		Binaries:    map[string]plan.Binary{},
		Environment: map[string][]byte{},
		ConfigFiles: map[string][]byte{},
		Credentials: map[string][]byte{},
		Repository:  map[string]sandbox.Repository{},
		IDs:         systemIDs(),
	}
	if inv.Host.UIDRange != nil {
		f.IDs = *inv.Host.UIDRange
	}
	var users, groups []string
	for _, i := range inv.Instances {
		users = append(users, i.User)
		groups = append(groups, i.ExtraGroups...)
		if i.Group != "" {
			groups = append(groups, i.Group)
		}
	}
	a, err := readAccounts(ctx, users, groups)
	if err == nil {
		err = a.markOurs()
	}
	if err != nil {
		return f, nil, err
	}
	f.Accounts, f.Groups, f.Taken = a.users, a.groups, a.taken
	if f.Sandbox, err = sandboxHost(); err != nil {
		return f, nil, err
	}
	self, err := findBinary(f.Sandbox.Opencoded)
	if err != nil {
		return f, nil, fmt.Errorf("cannot find out which opencoded this is: %w", err)
	}
	f.Author = self.Stamp
	if f.Projects, err = projects(); err != nil {
		return f, nil, err
	}
	c := checker{inv: inv, facts: &f}
	c.run()
	bundles, found := plan.Configurations(inv, Reader{Trusted: os.Geteuid() == 0})
	f.Bundles = bundles
	c.problems.AddAll(found)
	c.configuredFiles()
	c.findSchemas(ctx)
	return f, c.problems, nil
}

// readSecrets reads what only root can read.
func readSecrets(inv *instance.Inventory, f *plan.Facts) (err error) {
	if f.Key, err = secret(plan.KeyFile); err != nil {
		return err
	}
	f.Passwords = map[string]string{}
	for _, i := range inv.Enabled() {
		if f.Passwords[i.Name], err = password(sandbox.LayoutOf(i.Name).Password); err != nil {
			return err
		}
	}
	return nil
}

// sandboxHost reads what the unit text depends on.
func sandboxHost() (sandbox.Host, error) {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return sandbox.Host{}, fmt.Errorf("cannot find out where opencoded itself is: %w", err)
	}
	return sandbox.Host{Opencoded: self, ResolvDir: resolvDir("/etc/resolv.conf"), Shell: shell()}, nil
}

// shell is the first of bash and sh that every instance sees.
func shell() string {
	if _, err := os.Stat("/bin/bash"); err == nil {
		return "/bin/bash"
	}
	return "/bin/sh"
}

// resolvDir is the directory that must be visible so that a symbolic link
// /etc/resolv.conf leads somewhere; "" if the file is in /etc itself. The link
// is followed by hand because what it leads to may not exist yet.
func resolvDir(path string) string {
	target := path
	for range 40 { // as the kernel: MAXSYMLINKS
		next, err := os.Readlink(target)
		if err != nil {
			break
		}
		if !filepath.IsAbs(next) {
			next = filepath.Join(filepath.Dir(target), next)
		}
		target = next
	}
	dir := filepath.Dir(target)
	switch {
	case under(target, "/etc", "/usr", "/nix", "/opt"):
		return ""
	case dir == "/run" || dir == "/":
		return target // not the whole of /run
	default:
		return dir
	}
}

// systemdVersion is the number before the first dot: "252.38-1~deb12u1" is 252.
func (h *Host) systemdVersion() (int, error) {
	text, err := h.bus.GetManagerProperty("Version")
	if err != nil {
		return 0, fmt.Errorf("cannot ask systemd for its version: %w", err)
	}
	digits := regexp.MustCompile(`[0-9]+`).FindString(text)
	return strconv.Atoi(digits)
}

// findBinary resolves an opencode program. An empty path means the one in PATH.
func findBinary(path string) (plan.Binary, error) {
	if path == "" {
		found, err := exec.LookPath("opencode")
		if err != nil {
			return plan.Binary{}, fmt.Errorf("no opencode in PATH (%s)", os.Getenv("PATH"))
		}
		path = found
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return plan.Binary{}, err
	}
	resolved, err = filepath.Abs(resolved)
	if err != nil {
		return plan.Binary{}, err
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return plan.Binary{}, err
	}
	if info.IsDir() || info.Mode().Perm()&0o111 == 0 {
		return plan.Binary{}, fmt.Errorf("%s is not an executable file", resolved)
	}
	st := info.Sys().(*syscall.Stat_t)
	return plan.Binary{
		Resolved: resolved,
		Stamp:    fmt.Sprintf("%s %d:%d %d %d", resolved, st.Dev, st.Ino, st.Size, st.Mtim.Nano()),
	}, nil
}

// secret reads a file of random bytes, or makes new ones where there is none.
// They are written when the plan is carried out.
func secret(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err == nil && len(text) > 0 {
		return text, nil
	}
	if err != nil && !isNotExist(err) {
		return nil, fmt.Errorf("cannot read the key of the generation hashes: %w", err)
	}
	return []byte(randomText()), nil
}

// password reads the generated password of an instance, or makes a new one.
func password(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil && !isNotExist(err) {
		return "", fmt.Errorf("cannot read the server password: %w", err)
	}
	value, found := strings.CutPrefix(strings.TrimSpace(string(text)), "OPENCODE_SERVER_PASSWORD=")
	if found && value != "" {
		return value, nil
	}
	return randomText(), nil
}

// randomText is 192 random bits in letters that need no quoting anywhere.
func randomText() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // crypto/rand never fails; it ends the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}
