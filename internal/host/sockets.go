package host

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencoded/opencoded/internal/blocked"
)

// Processes finds who holds a socket to a destination. It looks at the host anew when
// its last look is older than a fifth of a second: a scan of /proc for each of
// thousands of packets would take longer than they do. The zero value is ready.
type Processes struct {
	taken   time.Time
	sockets map[socket][]string // inodes
	holders map[uint32]map[string][]string
}

// socket is a connected socket as its user sees it.
type socket struct {
	uid      uint32
	protocol string // tcp, udp
	remote   netip.AddrPort
}

// Find names the processes of a user that hold a live socket to a destination, as
// "curl (1234)". Of a packet that was sent without connecting nothing is known.
func (p *Processes) Find(uid uint32, protocol string, to netip.AddrPort) []string {
	if time.Since(p.taken) > time.Second/5 {
		p.look()
	}
	var out []string
	for _, inode := range p.sockets[socket{uid, protocol, to}] {
		if p.holders[uid] == nil {
			p.holders[uid] = holders(uid)
		}
		out = append(out, p.holders[uid][inode]...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (p *Processes) look() {
	p.taken, p.sockets, p.holders = time.Now(), map[socket][]string{}, map[uint32]map[string][]string{}
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		f, err := os.Open("/proc/net/" + table)
		if err != nil {
			continue // no IPv6
		}
		readSockets(f, strings.TrimSuffix(table, "6"), p.sockets)
		f.Close()
	}
}

// readSockets reads the connected sockets of a table of /proc/net, proc(5).
func readSockets(r io.Reader, protocol string, into map[socket][]string) {
	lines := bufio.NewScanner(r)
	lines.Scan() // the heading
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[9] == "0" { // 0: no process has it any more
			continue
		}
		if to, err := socketAddress(f[2]); err == nil && to.Port() != 0 {
			s := socket{number(f[7]), protocol, to}
			into[s] = append(into[s], f[9])
		}
	}
}

// holders are the processes of a user by the inodes of their sockets.
func holders(uid uint32) map[string][]string {
	out := map[string][]string{}
	list, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range list {
		pid, err := strconv.ParseUint(filepath.Base(dir), 10, 32)
		if err != nil {
			continue
		}
		if u, err := processUser(uint32(pid)); err != nil || u != uid {
			continue
		}
		comm, err := os.ReadFile(dir + "/comm")
		if err != nil {
			continue
		}
		// The process chooses its name.
		name := fmt.Sprintf("%s (%d)", blocked.Printable(strings.TrimSuffix(string(comm), "\n")), pid)
		files, _ := os.ReadDir(dir + "/fd")
		for _, f := range files {
			target, err := os.Readlink(dir + "/fd/" + f.Name())
			if inode, ok := strings.CutPrefix(target, "socket:["); err == nil && ok {
				inode = strings.TrimSuffix(inode, "]")
				out[inode] = append(out[inode], name)
			}
		}
	}
	return out
}
