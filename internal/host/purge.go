package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/netpolicy"
	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/internal/sandbox"
)

// Remains is what a removed instance still has on the host.
type Remains struct {
	Instance string   `json:"instance"`
	Paths    []string `json:"paths,omitempty"`   // state directory, opencoded's own directory, unit files
	Account  string   `json:"account,omitempty"` // "" if opencoded did not make it
	Fragment string   `json:"fragment,omitempty"`
	Active   bool     `json:"active"` // its units still run

	Openings []plan.Opening `json:"openings,omitempty"` // in the firewalls of the host

	uid   uint32
	quota *plan.Quota
}

// Empty reports whether there is nothing to purge.
func (r Remains) Empty() bool {
	return len(r.Paths) == 0 && r.Account == "" && r.Fragment == "" && !r.Active && len(r.Openings) == 0
}

// Remains finds what an instance left: the account that its marked fragment
// names, the home directory of that account, and opencoded's own files.
func (h *Host) Remains(ctx context.Context, name string) (Remains, error) {
	r := Remains{Instance: name}
	for _, unitName := range []string{instance.ServiceName(name), instance.SetupName(name)} {
		u, err := h.Unit(ctx, unitName, instance.UnitDir)
		if err != nil {
			return r, err
		}
		r.Active = r.Active || u.Active != "inactive" && u.Active != "failed"
	}
	for _, dir := range unitDirs {
		files, err := unitFiles(dir)
		if err != nil {
			return r, err
		}
		for _, f := range files {
			if unitInstance(f[len(dir)+1:]) == name {
				r.Paths = append(r.Paths, f)
			}
		}
	}
	if dir := sandbox.LayoutOf(name).Dir; !isMissing(dir) {
		r.Paths = append(r.Paths, dir)
	}
	list, err := firewalls(ctx)
	if err != nil {
		return r, err
	}
	r.Openings = held(list)[name]
	return r, h.account(ctx, &r)
}

// account adds the account and its home, if opencoded made them.
func (h *Host) account(ctx context.Context, r *Remains) error {
	path := plan.FragmentPath(r.Instance)
	text, err := os.ReadFile(path)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	users := fragmentUsers(string(text))
	if len(users) == 0 {
		return nil // not ours
	}
	r.Fragment = path
	a, err := readAccounts(ctx, users, nil)
	if err != nil {
		return err
	}
	user, ok := a.users[users[0]]
	if !ok {
		return nil
	}
	r.Account, r.uid = user.User, user.UID
	// The home is only taken with the account if it is the account's own.
	if info, err := look(user.Home, false); err == nil && info.Exists && info.UID == user.UID {
		r.Paths = append(r.Paths, user.Home)
		r.quota, err = limited(user.Home, user.UID)
		return err
	}
	return nil
}

// Purge deletes all of it: units, rules, state, account. The project directory
// stays. The caller holds the lock and has made sure that it is meant.
func (h *Host) Purge(ctx context.Context, r Remains) error {
	if err := h.takeDown(ctx, r); err != nil {
		return err
	}
	for _, o := range r.Openings {
		if err := setOpening(ctx, plan.Remove, o); err != nil {
			return err
		}
	}
	if r.quota != nil {
		if err := setQuota(plan.Remove, *r.quota); err != nil {
			return err
		}
	}
	for _, p := range r.Paths {
		if err := os.RemoveAll(p); err != nil { // never follows a symbolic link
			return fmt.Errorf("cannot delete %s: %w", p, err)
		}
	}
	if err := h.reload(ctx); err != nil {
		return err
	}
	if err := h.kernel.Delete(ctx, netpolicy.EgressTable(r.Instance)); err != nil {
		return err
	}
	if r.Account != "" {
		if err := deleteAccount(ctx, r.Account); err != nil {
			return err
		}
	}
	// Last, because the fragment is how the account is known to be opencoded's.
	if r.Fragment != "" {
		return removeFile(r.Fragment)
	}
	return nil
}

// takeDown stops what still runs of an instance and makes sure that nothing of
// it is left to use the account.
func (h *Host) takeDown(ctx context.Context, r Remains) error {
	service := instance.ServiceName(r.Instance)
	if r.Active {
		if err := h.stop(ctx, service); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(unitDirs, func(dir string) bool { return enabled(service, dir) }) {
		if err := h.disable(ctx, service); err != nil {
			return err
		}
	}
	return noProcesses(r)
}

// noProcesses refuses to delete an account that somebody still uses: its id
// would be given away while they run.
func noProcesses(r Remains) error {
	if r.Account == "" {
		return nil
	}
	pids, err := processesOf(r.uid)
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		return fmt.Errorf("cannot delete the account %s: processes of it are running (pid %s): end them first",
			r.Account, strings.Join(pids, ", "))
	}
	return nil
}

// processesOf are the ids of the processes that run with a user id.
func processesOf(uid uint32) ([]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || e.Name()[0] < '0' || e.Name()[0] > '9' {
			continue // ended in the meantime, or not a process
		}
		if info.Sys().(*syscall.Stat_t).Uid == uid {
			pids = append(pids, e.Name())
		}
	}
	return pids, nil
}

func deleteAccount(ctx context.Context, user string) error {
	out, err := exec.CommandContext(ctx, "userdel", user).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 6 { // no such user: a purge that was interrupted
		err = nil
	}
	if err != nil {
		return fmt.Errorf("cannot delete the account %s: %w: %s", user, err, strings.TrimSpace(string(out)))
	}
	// userdel takes the user's own group along where USERGROUPS_ENAB says so.
	_ = exec.CommandContext(ctx, "groupdel", user).Run()
	return nil
}
