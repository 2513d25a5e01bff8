package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencoded/opencoded/internal/destination"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/netpolicy"
)

// Trial is what happens, or happened, to what an instance sends to one address.
type Trial struct {
	To       string            `json:"to"`
	Protocol string            `json:"protocol"`
	Outcome  netpolicy.Outcome `json:"outcome"`
	Table    string            `json:"table,omitempty"`
	Why      string            `json:"why"`
	Live     string            `json:"live,omitempty"` // what trying it showed
}

// Trials says what the rules do to each of the addresses.
func Trials(rules netpolicy.Rules, name string, addrs []netip.Addr, port uint16, protocol destination.Protocol) ([]Trial, error) {
	local, err := localAddrs()
	if err != nil {
		return nil, err
	}
	var out []Trial
	for _, a := range addrs {
		a = a.Unmap()
		d, err := rules.Decide(name, netpolicy.Packet{To: a, Port: port, Protocol: protocol, Local: a.IsLoopback() || local[a]})
		if err != nil {
			return nil, err
		}
		out = append(out, Trial{To: netip.AddrPortFrom(a, port).String(), Protocol: string(protocol), Outcome: d.Outcome, Table: d.Table, Why: d.Why})
	}
	return out, nil
}

func localAddrs() (map[netip.Addr]bool, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("cannot list the addresses of this host: %w", err)
	}
	out := map[netip.Addr]bool{}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out[p.Addr().Unmap()] = true
		}
	}
	return out, nil
}

// Resolve gives the addresses that a name has for this host.
func Resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a}, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, fmt.Errorf("cannot resolve %q: %w", name, err)
	}
	return addrs, nil
}

// dialTimeout is how long a connection is tried.
const dialTimeout = 3 * time.Second

// nogroup is the group of the kernel's overflow id; rules go by user.
const nogroup = 65534

// TryAs sends from a process with the user and in the control group of a running
// instance, so that nftables and systemd treat it as the instance. It says what
// the process saw.
func (h *Host) TryAs(ctx context.Context, rules netpolicy.Rules, name, to string, protocol destination.Protocol) (string, error) {
	policy, err := policyOf(rules, name)
	if err != nil {
		return "", err
	}
	u, err := h.Unit(ctx, instance.ServiceName(policy.Name), "")
	if err != nil {
		return "", err
	}
	if u.Group == "" {
		return "", fmt.Errorf("instance %s does not run: there is no control group to try it in (systemctl start %s)", policy.Name, instance.ServiceName(policy.Name))
	}
	group, err := os.Open(filepath.Join("/sys/fs/cgroup", u.Group))
	if err != nil {
		return "", fmt.Errorf("cannot open the control group of instance %s: %w", policy.Name, err)
	}
	defer group.Close()
	ctx, cancel := context.WithTimeout(ctx, dialTimeout+5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "net", "dial", string(protocol), to)
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: policy.UID, Gid: nogroup},
		UseCgroupFD: true, CgroupFD: int(group.Fd()),
	}
	out, err := cmd.CombinedOutput()
	if text := strings.TrimSpace(string(out)); err == nil && text != "" {
		return text, nil
	}
	return "", fmt.Errorf("cannot try it as user %d in %s: %w: %s", policy.UID, u.Group, err, strings.TrimSpace(string(out)))
}

// Dial sends as whoever runs it, and says in one line what came of it.
func Dial(ctx context.Context, protocol, to string) string {
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(ctx, protocol, to)
	if err == nil {
		defer c.Close()
		if protocol == string(destination.TCP) {
			return "connected"
		}
		if _, err = c.Write([]byte("\n")); err == nil { // a datagram that is dropped here fails with EPERM
			return "sent (whether it arrives cannot be known)"
		}
	}
	var errno syscall.Errno
	switch timeout := os.IsTimeout(err); {
	case timeout:
		return "no answer within " + dialTimeout.String()
	case errors.As(err, &errno) && errno == syscall.EPERM:
		return "refused by this host"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}

// ParseTarget reads HOST, HOST:PORT or [V6]:PORT; without a port it is 443.
func ParseTarget(text string) (name string, port uint16, err error) {
	name, digits, err := net.SplitHostPort(text)
	if err != nil {
		return strings.Trim(text, "[]"), 443, nil
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 || name == "" {
		return "", 0, fmt.Errorf("cannot use %q as a destination (use ADDRESS:PORT, [IPV6]:PORT or NAME:PORT)", text)
	}
	return name, uint16(n), nil
}
