package host

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/opencoded/opencoded/internal/plan"
)

// ufwTimeout bounds one command; ufw takes a tenth of a second, and waits for
// another ufw.
const ufwTimeout = 30 * time.Second

// ufw runs the command and returns what it printed.
func ufw(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, ufwTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, "ufw", args...)
	c.Env = append(os.Environ(), "LC_ALL=C")
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("`ufw %s`: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// readUFW returns nil where ufw is not installed.
func readUFW(ctx context.Context) (*plan.Firewall, error) {
	if _, err := exec.LookPath("ufw"); err != nil {
		return nil, nil
	}
	status, err := ufw(ctx, "status")
	if err != nil {
		return nil, fmt.Errorf("cannot ask ufw whether it is active: %w", err)
	}
	added, err := ufw(ctx, "show", "added")
	if err != nil {
		return nil, fmt.Errorf("cannot ask ufw for its rules: %w", err)
	}
	f := parseUFW(added)
	f.Active = strings.HasPrefix(status, "Status: active")
	return f, nil
}

// parseUFW reads the answer of `ufw show added`: the commands that would make the
// rules, with their comments in single quotes.
func parseUFW(added string) *plan.Firewall {
	f := &plan.Firewall{Manager: plan.UFW}
	for line := range strings.Lines(added) {
		rule, ok := strings.CutPrefix(strings.TrimSpace(line), "ufw ")
		if !ok {
			continue
		}
		rule, comment, _ := strings.Cut(rule, " comment '")
		name := plan.CommentInstance(strings.TrimSuffix(comment, "'"))
		if name == "" {
			f.Others = append(f.Others, rule)
			continue
		}
		f.Openings = append(f.Openings, plan.Opening{Manager: plan.UFW, Instance: name, Rule: rule, Saved: true, Loaded: true})
	}
	return f
}

// setUFW adds the rule behind all others, so that what the administrator denies
// stays denied, or deletes it. Both are saved and in force at once, the latter if
// ufw is active.
func setUFW(ctx context.Context, open bool, o plan.Opening) error {
	args := strings.Fields(o.Rule)
	if open {
		args = append(args, "comment", plan.FirewallComment(o.Instance))
	} else {
		args = append([]string{"delete"}, args...)
	}
	_, err := ufw(ctx, args...)
	return err
}
