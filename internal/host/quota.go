package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/plan"
	"github.com/opencoded/opencoded/internal/quota"
)

// stateMax refuses a limit that the file system of the state directory would not keep to.
func (c *checker) stateMax() {
	const key = "resources.state_max"
	if c.i.Resources.StateMax == 0 {
		return
	}
	dir := c.i.StateDir
	for isMissing(dir) {
		dir = filepath.Dir(dir)
	}
	err := quota.Check(dir)
	if errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 {
		return // its state is the instance's alone, as it should be
	}
	var u *quota.Unsupported
	switch {
	case errors.As(err, &u):
		c.fail(key, u.Remedy+"; or remove the key", "%s", u.Problem)
		return
	case err != nil:
		c.fail(key, "", "%v", err)
		return
	}
	s, err := quota.Look(c.i.StateDir, 0)
	if err != nil || s.Project == 0 {
		return
	}
	if a, ok := c.facts.Accounts[c.i.User]; !ok || s.Project != plan.Project(a.UID) {
		c.fail(key, "take it out with chattr -p 0 -P "+quote(c.i.StateDir)+", or remove the key",
			"%s is in project %d of somebody else's quotas", c.i.StateDir, s.Project)
	}
}

// projects are the ids that the administrator has given: /etc/projid names them, /etc/projects their directories.
func projects() (map[uint32]string, error) {
	out := map[uint32]string{}
	for path, field := range map[string]int{"/etc/projid": 1, "/etc/projects": 0} {
		text, err := os.ReadFile(path)
		if err != nil && !isNotExist(err) {
			return nil, err
		}
		for l := range strings.Lines(string(text)) {
			if f := strings.Split(strings.TrimSpace(l), ":"); len(f) > field {
				out[number(f[field])] = path
			}
		}
	}
	return out, nil
}

// limited is the limit of a state directory that opencoded has put into a project, or nil.
func limited(dir string, uid uint32) (*plan.Quota, error) {
	s, err := quota.Look(dir, plan.Project(uid))
	if err != nil || s.Project != plan.Project(uid) {
		return nil, err
	}
	return &plan.Quota{Dir: dir, UID: uid, Bytes: s.Limit.Bytes, Files: s.Limit.Files, Unmarked: !s.Inherit}, nil
}

func observeQuotas(d plan.Desired, o *plan.Observed) error {
	o.Quotas = map[string]plan.Quota{}
	for _, t := range d.Targets {
		q, err := limited(t.Instance.StateDir, t.Account.UID)
		if err != nil {
			return err
		}
		if q != nil {
			o.Quotas[t.Instance.Name] = *q
		}
	}
	return nil
}

// leftQuotas are the limits of instances that are not wanted: of accounts that opencoded made, and of disabled ones.
func leftQuotas(inv *instance.Inventory, accounts map[string]plan.Account, wanted map[string]bool) (map[string]*plan.Quota, error) {
	out := map[string]*plan.Quota{}
	add := func(name, user, dir string) error {
		a, ok := accounts[user]
		if wanted[name] || !ok {
			return nil
		}
		if dir == "" {
			dir = a.Home
		}
		q, err := limited(dir, a.UID)
		if q != nil {
			out[name] = q
		}
		return err
	}
	for _, i := range inv.Instances {
		if err := add(i.Name, i.User, i.StateDir); err != nil {
			return nil, err
		}
	}
	fragments, _ := filepath.Glob(plan.FragmentPath("*")) // the pattern is fixed and valid
	for _, path := range fragments {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "opencode-"), ".conf")
		if users := fragmentUsers(string(text)); len(users) > 0 && inv.Get(name) == nil {
			if err := add(name, users[0], ""); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// setQuota limits a state directory, or lifts its limit.
func setQuota(verb plan.Verb, q plan.Quota) error {
	if verb == plan.Remove {
		return quota.Clear(q.Dir, q.UID, plan.Project(q.UID))
	}
	return quota.Set(q.Dir, q.UID, plan.Project(q.UID), quota.Amount{Bytes: q.Bytes, Files: q.Files})
}

// used adds to a status what the state directory takes.
func (out *Status) used(q *plan.Quota) error {
	if q == nil {
		return nil
	}
	s, err := quota.Look(q.Dir, plan.Project(q.UID))
	if err != nil {
		return err
	}
	out.StateUsed, out.StateMax = s.Used.Bytes, q.Bytes
	// A file takes a whole block, of 4 KiB as a rule.
	if full := s.Used.Bytes+4096 > q.Bytes; full || s.Used.Files >= q.Files {
		what := plan.Size(q.Bytes)
		if !full {
			what = fmt.Sprintf("%d files", q.Files)
		}
		out.Warnings = append(out.Warnings, fmt.Sprintf("has reached resources.state_max (%s): nothing more can be written to %s", what, q.Dir))
	}
	return nil
}
