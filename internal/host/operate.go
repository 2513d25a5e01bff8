package host

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/internal/sandbox"
)

// Operation is what an operator does to a running instance.
type Operation string

// The operations.
const (
	Start   Operation = "start"
	Stop    Operation = "stop"
	Restart Operation = "restart"
)

// Operate starts, stops or restarts the service of an instance, as systemctl does. What is stopped stays so until
// somebody starts it, an apply, or the next boot.
func (h *Host) Operate(ctx context.Context, what Operation, name string) error {
	if _, err := unitFile(name); err != nil {
		return err
	}
	unit := instance.ServiceName(name)
	switch what {
	case Start:
		return h.start(ctx, unit)
	case Stop:
		return h.stop(ctx, unit)
	case Restart:
		return h.restart(ctx, unit)
	}
	return fmt.Errorf("cannot %q an instance (start, stop, restart)", what)
}

// unitFile is the file of an instance's service, wherever an apply has put it.
func unitFile(name string) (string, error) {
	if instance.ValidName(name) {
		for _, dir := range []string{instance.UnitDir, "/run/systemd/system"} {
			path := filepath.Join(dir, instance.ServiceName(name))
			if text, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(text), sandbox.Marker) {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("there is no instance %q on this host (`opencoded status` lists them; a new one is there after an apply)", name)
}

// RotatePassword replaces the generated password of an instance. The server takes it when it is restarted, which the
// next apply does.
func RotatePassword(name string) error {
	path := sandbox.LayoutOf(name).Password
	if _, err := os.Stat(path); isNotExist(err) {
		return fmt.Errorf("instance %q has no generated password (auth = false, or OPENCODE_SERVER_PASSWORD in an environment file)", name)
	}
	return writeFile(plan.File{Path: path, Mode: 0o600, Content: plan.PasswordFile(randomText())})
}

// Access is what is needed to reach a running server.
type Access struct {
	URL       string
	Password  string // "" without auth
	Opencode  string // the program that runs there
	Directory string
}

// Access says how a running server is reached.
func (h *Host) Access(ctx context.Context, i *instance.Instance, unitDir string) (Access, error) {
	u, err := h.Unit(ctx, i.ServiceName(), unitDir)
	if err == nil {
		err = serves(u, i.Listen)
	}
	if err != nil {
		return Access{}, fmt.Errorf("instance %q cannot be reached: %w", i.Name, err)
	}
	b, err := findBinary(i.Opencode)
	return Access{URL: "http://" + reachable(i.Listen), Password: Password(u), Opencode: b.Resolved, Directory: i.Directory}, err
}

// Logs writes the journal of an instance, its set-up included: the last lines, or everything since a point in time in
// journalctl's notation; with follow until the context ends.
func Logs(ctx context.Context, w io.Writer, name string, lines int, since string, follow bool) error {
	if _, err := unitFile(name); err != nil {
		return err
	}
	args := []string{"--quiet", "--no-pager", "--output=short-iso", "--no-hostname",
		"--unit=" + instance.ServiceName(name), "--unit=" + instance.SetupName(name)}
	if since != "" {
		args = append(args, "--since="+since)
	}
	if lines > 0 {
		args = append(args, "--lines="+strconv.Itoa(lines))
	}
	if follow {
		args = append(args, "--follow")
	}
	var problem strings.Builder
	cmd := exec.CommandContext(ctx, "journalctl", args...)
	cmd.Stdout, cmd.Stderr = w, &problem
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot read the journal: %s", strings.TrimSpace(problem.String()+" "+err.Error()))
	}
	return nil
}
