package host

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/instance"
)

// Both kinds of address, in the byte order of x86 and arm64.
func TestReadListeners(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:21FD 00000000:0000 0A 00000000:00000000 00:00000000 00000000   997        0 1 1 0 100 0 0 10 0
   1: 00000000000000000000000001000000:21FE 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 0000000000000000FFFF00000100007F:21FF 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     5        0 3 1 0 100 0 0 10 0
   3: 0100007F:8000 0100007F:21FD 01 00000000:00000000 00:00000000 00000000   997        0 4 1 0 20 4 30 10 -1
   4: 0100007F:2200 00000000:0000 0A 00000000:00000000 00:00000000 00000000     1        0 5 1 0 100 0 0 10 0
`
	got, err := readListeners(strings.NewReader(table))
	if err != nil {
		t.Fatal(err)
	}
	want := []listener{
		{netip.MustParseAddrPort("127.0.0.1:8701"), 997},
		{netip.MustParseAddrPort("[::1]:8702"), 0},
		{netip.MustParseAddrPort("127.0.0.1:8703"), 5},
	}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got[i], want[i])
		}
	}
	for _, bad := range []string{"heading\nshort\n", "heading\n0: xyz:1 0:0 0A 0 0 0 0 0 0\n", "heading\n0: 01000:1 0:0 0A 0 0 0 0 0 0\n"} {
		if got, err := readListeners(strings.NewReader(bad)); err == nil {
			t.Errorf("%q reads as %v", bad, got)
		}
	}
}

// A port that somebody else holds is not the server's, and neither is one that
// nobody has opened yet.
func TestListensAlone(t *testing.T) {
	uid, err := processUser(uint32(os.Getpid()))
	if err != nil || uid != uint32(os.Geteuid()) {
		t.Fatalf("processUser: %d, %v", uid, err)
	}
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil && strings.HasPrefix(address, "[") {
			continue // a host without IPv6
		}
		if err != nil {
			t.Fatal(err)
		}
		a := l.Addr().(*net.TCPAddr).AddrPort()
		listen := instance.Listen{Address: a.Addr().Unmap(), Port: a.Port()}
		if address == "0.0.0.0:0" {
			listen.Address = netip.MustParseAddr("127.0.0.1") // reached through the wildcard
		}
		if err := listensAlone(listen, uid); err != nil {
			t.Errorf("%s: %v", address, err)
		}
		if err := listensAlone(listen, uid+1); !errors.Is(err, errTaken) {
			t.Errorf("%s, as somebody else: %v", address, err)
		}
		l.Close()
		if err := listensAlone(listen, uid); err == nil || !strings.Contains(err.Error(), "nothing listens on") {
			t.Errorf("%s, closed: %v", address, err)
		}
	}
}
