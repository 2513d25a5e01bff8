package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/internal/sandbox"
)

// accounts is what the name service knows of users and groups.
type accounts struct {
	users  map[string]plan.Account
	groups map[string]uint32
	taken  map[uint32]bool
}

// readAccounts asks the name service, so that accounts of a directory server
// count too. Names are asked for one by one besides the listing, because such
// servers often do not list.
func readAccounts(ctx context.Context, users, groups []string) (accounts, error) {
	a := newAccounts()
	err := errors.Join(
		a.read(ctx, "group", nil), a.read(ctx, "group", groups),
		a.read(ctx, "passwd", nil), a.read(ctx, "passwd", users),
	)
	return a, err
}

func newAccounts() accounts {
	return accounts{users: map[string]plan.Account{}, groups: map[string]uint32{}, taken: map[uint32]bool{}}
}

func (a *accounts) read(ctx context.Context, database string, names []string) error {
	if len(names) == 0 && names != nil {
		return nil
	}
	out, err := exec.CommandContext(ctx, "getent", append([]string{database}, names...)...).Output()
	var exit *exec.ExitError
	// 2 means that some of the names do not exist, 3 that listing is not supported.
	if errors.As(err, &exit) && (exit.ExitCode() == 2 || exit.ExitCode() == 3) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("cannot read accounts with getent %s: %w", database, err)
	}
	for l := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(l), ":")
		switch {
		case database == "passwd" && len(f) >= 7:
			uid, gid := number(f[2]), number(f[3])
			a.users[f[0]] = plan.Account{User: f[0], UID: uid, GID: gid, Home: f[5], Shell: f[6], Ours: madeByUs(f[0], f[4])}
			a.taken[uid] = true
		case database == "group" && len(f) >= 3:
			a.groups[f[0]] = number(f[2])
			a.taken[number(f[2])] = true
		}
	}
	return nil
}

func number(s string) uint32 {
	n, _ := strconv.ParseUint(s, 10, 32)
	return uint32(n)
}

// madeByUs recognises an account of opencoded whose fragment was lost by what
// the fragment wrote into it; only root can have done so.
func madeByUs(user, comment string) bool {
	name, ok := strings.CutPrefix(user, "opencode-")
	return ok && comment == plan.AccountComment(name)
}

// markOurs finds the other accounts that opencoded made: a marked sysusers
// fragment names them.
func (a *accounts) markOurs() error {
	paths, _ := filepath.Glob(plan.FragmentPath("*")) // the pattern is fixed and valid
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		for _, user := range fragmentUsers(string(text)) {
			if acc, ok := a.users[user]; ok {
				acc.Ours = true
				a.users[user] = acc
			}
		}
	}
	return nil
}

// fragmentUsers lists the users of a marked fragment; none of an unmarked one.
func fragmentUsers(text string) []string {
	rest, marked := strings.CutPrefix(text, sandbox.Marker+"\n")
	if !marked {
		return nil
	}
	var out []string
	for l := range strings.Lines(rest) {
		if f := strings.Fields(l); len(f) >= 2 && f[0] == "u" {
			out = append(out, f[1])
		}
	}
	return out
}

// systemIDs is the range of system accounts of this host, from login.defs(5),
// which useradd and systemd-sysusers follow.
func systemIDs() instance.UIDRange {
	r := instance.UIDRange{First: 100, Last: 999}
	text, err := os.ReadFile("/etc/login.defs")
	if err != nil {
		return r // the defaults of both programs
	}
	for l := range bytes.Lines(text) {
		f := strings.Fields(string(l))
		if len(f) != 2 {
			continue
		}
		switch f[0] {
		case "SYS_UID_MIN":
			r.First = max(number(f[1]), 1)
		case "SYS_UID_MAX":
			r.Last = number(f[1])
		}
	}
	return r
}

// makeAccounts has systemd-sysusers read the fragments, all in one run.
func makeAccounts(ctx context.Context, fragments []string) error {
	out, err := exec.CommandContext(ctx, "systemd-sysusers", fragments...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("cannot create accounts: systemd-sysusers is not installed (install the package systemd)")
	}
	if err != nil {
		return fmt.Errorf("cannot create accounts: systemd-sysusers: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// userName is the name of an id, or the id itself where it has none.
func userName(uid uint32) string {
	out, err := exec.Command("getent", "passwd", strconv.FormatUint(uint64(uid), 10)).Output()
	name, _, found := strings.Cut(string(out), ":")
	if err != nil || !found {
		return fmt.Sprintf("uid %d", uid)
	}
	return name
}
