package host

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/opencoded/opencoded/internal/instance"
)

// probeUnit probes the server that a unit runs, and no other: whoever else holds
// its port would be believed to be it, and would be told its password.
func probeUnit(ctx context.Context, u Unit, listen instance.Listen) (Health, error) {
	if err := serves(u, listen); err != nil {
		return Health{}, err
	}
	return probe(ctx, server{listen, Password(u), probeTimeout})
}

// serves makes sure that what answers on an address is the main process of a unit.
func serves(u Unit, listen instance.Listen) error {
	if u.Active != "active" || u.MainPID == 0 {
		return fmt.Errorf("the unit is %s (%s)", u.Active, u.Sub)
	}
	uid, err := processUser(u.MainPID)
	if err != nil {
		return fmt.Errorf("the server has ended: %w", err)
	}
	return listensAlone(listen, uid)
}

// Password is what guards a running server; "" when nothing does. An environment file may have set another than the
// generated one.
func Password(u Unit) string { return processVariable(u.MainPID, "OPENCODE_SERVER_PASSWORD") }

// processUser is the effective user of a process. The owner of its directory in
// /proc is root where its program may not be read, see proc(5).
func processUser(pid uint32) (uint32, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(text)) {
		if f := strings.Fields(l); len(f) > 2 && f[0] == "Uid:" {
			return number(f[2]), nil
		}
	}
	return 0, errors.New("its status names no user")
}

// errTaken means that somebody else listens where a server should.
var errTaken = errors.New("is taken")

// listensAlone makes sure that what answers on an address is a process of a user.
func listensAlone(listen instance.Listen, uid uint32) error {
	var all []listener
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		list, err := listeners(table)
		if err != nil {
			return err
		}
		all = append(all, list...)
	}
	l, found := answering(all, netip.MustParseAddrPort(reachable(listen)))
	switch {
	case !found:
		return fmt.Errorf("nothing listens on %s", listen)
	case l.uid != uid:
		return fmt.Errorf("%s %w by a process of %s (end it, or choose another port)", listen, errTaken, userName(l.uid))
	}
	return nil
}

// answering is the socket that gets a connection to an address: one that names
// it, else one for all addresses of its family, else one for both families.
func answering(all []listener, to netip.AddrPort) (listener, bool) {
	any := netip.IPv4Unspecified()
	if to.Addr().Is6() {
		any = netip.IPv6Unspecified()
	}
	for _, a := range []netip.Addr{to.Addr(), any, netip.IPv6Unspecified()} {
		for _, l := range all {
			if l.address == netip.AddrPortFrom(a, to.Port()) {
				return l, true
			}
		}
	}
	return listener{}, false
}

type listener struct {
	address netip.AddrPort
	uid     uint32
}

// listeners reads the listening sockets of /proc/net/tcp or tcp6. A kernel without
// IPv6 has no tcp6.
func listeners(path string) ([]listener, error) {
	f, err := os.Open(path)
	if isNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readListeners(f)
}

func readListeners(r io.Reader) ([]listener, error) {
	const stateListen = "0A" // TCP_LISTEN
	var out []listener
	lines := bufio.NewScanner(r)
	lines.Scan() // the heading
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 8 {
			return nil, fmt.Errorf("cannot read a line of the listening sockets: %q", lines.Text())
		}
		// The kernel lists them before all connections, of which there can be many.
		if f[3] != stateListen {
			break
		}
		a, err := socketAddress(f[1])
		if err != nil {
			return nil, err
		}
		out = append(out, listener{a, number(f[7])})
	}
	return out, lines.Err()
}

// socketAddress reads "0100007F:1F90": words of the address in the byte order of
// the machine, then the port.
func socketAddress(text string) (netip.AddrPort, error) {
	digits, port, _ := strings.Cut(text, ":")
	p, err := strconv.ParseUint(port, 16, 16)
	var b []byte
	for ; err == nil && len(digits) >= 8; digits = digits[8:] {
		var word uint64
		word, err = strconv.ParseUint(digits[:8], 16, 32)
		b = binary.NativeEndian.AppendUint32(b, uint32(word))
	}
	a, ok := netip.AddrFromSlice(b)
	if err != nil || !ok || digits != "" {
		return netip.AddrPort{}, fmt.Errorf("cannot read the address of a socket: %q", text)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), nil
}
