package host

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestJournalEntry(t *testing.T) {
	at, message, ok := journalEntry([]byte(`{"__REALTIME_TIMESTAMP":"1700000000123456","MESSAGE":"opencode-a-blocked: IN=","_BOOT_ID":"x"}`))
	if !ok || message != "opencode-a-blocked: IN=" || !at.Equal(time.UnixMicro(1700000000123456)) {
		t.Errorf("%v, %q, %v", at, message, ok)
	}
	for _, line := range []string{"", "{", "[]", `{"__REALTIME_TIMESTAMP":"1"}`, `{"__REALTIME_TIMESTAMP":"1","MESSAGE":null}`,
		`{"__REALTIME_TIMESTAMP":"1","MESSAGE":[255,10]}`, `{"__REALTIME_TIMESTAMP":"x","MESSAGE":"m"}`, `{"MESSAGE":"m"}`} {
		if at, message, ok := journalEntry([]byte(line)); ok {
			t.Errorf("%s reads as %v, %q", line, at, message)
		}
	}
}

func TestReadSockets(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:21FD 00000000:0000 0A 00000000:00000000 00:00000000 00000000   997        0 1 1 0 100 0 0 10 0
   1: 010200C0:8000 026433C6:01BB 02 00000000:00000000 00:00000000 00000000   997        0 4 1 0 20 4 30 10 -1
   2: 010200C0:8001 026433C6:01BB 01 00000000:00000000 00:00000000 00000000   997        0 5 1 0 20 4 30 10 -1
   3: 010200C0:8002 026433C6:01BB 06 00000000:00000000 00:00000000 00000000   997        0 0 1 0 20 4 30 10 -1
   4: 0000000000000000FFFF0000010200C0:8003 0000000000000000FFFF0000026433C6:01BB 01 00000000:00000000 00:00000000 00000000   998        0 6 1 0 20 4 30 10 -1
short
   5: xyz:1 xyz:1 01 0 0 0 0 0 7
`
	got := map[socket][]string{}
	readSockets(strings.NewReader(table), "tcp", got)
	to := netip.MustParseAddrPort("198.51.100.2:443")
	first, second := got[socket{997, "tcp", to}], got[socket{998, "tcp", to}]
	if len(got) != 2 || strings.Join(first, " ") != "4 5" || strings.Join(second, " ") != "6" {
		t.Errorf("got %v", got)
	}
}

// This test is a process with sockets: connected ones are its own, and only its user's.
func TestProcesses(t *testing.T) {
	uid, err := processUser(uint32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimSpace(string(comm)) + " (" + filepath.Base(must(os.Readlink("/proc/self"))) + ")"
	tcp, udp := l.Addr().(*net.TCPAddr).AddrPort(), netip.MustParseAddrPort("127.0.0.1:9")
	var p Processes
	for _, c := range []struct {
		uid      uint32
		protocol string
		to       netip.AddrPort
		want     string
	}{
		{uid, "tcp", tcp, name}, {uid, "udp", udp, name},
		{uid + 1, "tcp", tcp, ""}, {uid, "udp", tcp, ""}, {uid, "sctp", tcp, ""}, {uid, "tcp", udp, ""},
	} {
		if got := strings.Join(p.Find(c.uid, c.protocol, c.to), ", "); got != c.want {
			t.Errorf("%v: %q", c, got)
		}
	}
}

func must(s string, err error) string {
	if err != nil {
		panic(err)
	}
	return s
}
