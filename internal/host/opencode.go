package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencoded/opencoded/internal/schema"
)

// unprivileged is nobody, the user of last resort on every Linux: what root knows nothing
// about runs as it.
const unprivileged = 65534

// scratch is a throwaway home for a program that is only asked something. As
// root the program runs as nobody, who owns nothing but that directory.
type scratch struct{ dir string }

func newScratch() (scratch, error) {
	dir, err := os.MkdirTemp("", "opencoded-ask-")
	if err != nil {
		return scratch{}, err
	}
	if os.Geteuid() == 0 {
		err = os.Chown(dir, unprivileged, unprivileged)
	}
	return scratch{dir}, err
}

func (s scratch) remove() { _ = os.RemoveAll(s.dir) } // in a directory for temporary files: what stays goes with it

func (s scratch) command(ctx context.Context, binary string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{
		"HOME=" + s.dir, "TMPDIR=" + s.dir, "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8",
		"OPENCODE_DISABLE_AUTOUPDATE=1", "OPENCODE_DISABLE_MODELS_FETCH=1",
	}
	// A group of its own, so that whatever it starts ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: unprivileged, Gid: unprivileged}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// askVersion runs `opencode --version`.
func askVersion(ctx context.Context, binary string) (string, error) {
	s, err := newScratch()
	if err != nil {
		return "", err
	}
	defer s.remove()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := s.command(ctx, binary, "--version").Output()
	version := schema.ParseVersion(strings.TrimSpace(string(out)))
	if err == nil && version == "" {
		err = errors.New("it prints no version")
	}
	if err != nil {
		return "", fmt.Errorf("cannot ask %s for its version: %w", binary, err)
	}
	return version, nil
}

// ImportSchema starts an installed opencode once, behind a password, on a port of
// loopback, and reads the schema of its configuration out of the description of
// its API. It returns its version with the schema.
func ImportSchema(ctx context.Context, binary string) (version string, text []byte, err error) {
	found, err := findBinary(binary)
	if err != nil {
		return "", nil, err
	}
	s, err := newScratch()
	if err != nil {
		return "", nil, err
	}
	defer s.remove()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	password := randomText()
	cmd := s.command(ctx, found.Resolved, "serve", "--hostname", "127.0.0.1", "--port", strconv.Itoa(port), "--print-logs")
	cmd.Env = append(cmd.Env, "OPENCODE_SERVER_PASSWORD="+password)
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return "", nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("cannot start %s: %w", found.Resolved, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { cancel(); <-ended }()
	doc, version, err := askAPI(ctx, port, password, ended)
	if err != nil {
		return "", nil, fmt.Errorf("cannot ask %s for its API: %w%s", found.Resolved, err, lastLine(log.Name()))
	}
	text, err = schema.FromOpenAPI(doc)
	return version, text, err
}

// freePort is one that nobody listens on at the moment. Somebody else could take
// it before opencode does; then opencode exits, and says so.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// askAPI waits for the server and reads /doc. A request that meets the server in
// its first moments may never be answered, hence the short limit and the retry.
func askAPI(ctx context.Context, port int, password string, ended chan error) (doc []byte, version string, err error) {
	get := func(path string) ([]byte, error) {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(one, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
		if err != nil {
			return nil, err
		}
		request.SetBasicAuth("opencode", password)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return nil, err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s answers %s", path, answer.Status)
		}
		return io.ReadAll(io.LimitReader(answer.Body, 32<<20))
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var health struct{ Version string }
		text, err := get("/global/health")
		if err == nil && json.Unmarshal(text, &health) == nil && schema.ParseVersion(health.Version) != "" {
			doc, err := get("/doc")
			return doc, schema.ParseVersion(health.Version), err
		}
		select {
		case <-ctx.Done():
			return nil, "", errors.Join(errors.New("it does not answer"), err)
		case err := <-ended:
			ended <- err
			return nil, "", fmt.Errorf("it ended: %w", errors.Join(errors.New("before it answered"), err))
		case <-tick.C:
		}
	}
}

func lastLine(path string) string {
	text, err := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if err != nil || lines[len(lines)-1] == "" {
		return ""
	}
	return ": " + lines[len(lines)-1]
}
