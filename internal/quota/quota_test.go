package quota

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	owner   = 1234
	project = 1_000_001_234
	mebi    = 1 << 20
)

var mine = Amount{Bytes: 2 * mebi, Files: 60}

// TestQuotas: the whole life of a limit on both file systems, and those that keep to none.
func TestQuotas(t *testing.T) {
	ext4 := disk(t, "mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota")
	if inKernel(t, ext4, disk(t, "mkfs.xfs", "-q")) {
		t.Run("ext4", func(t *testing.T) { limited(t, "/dev/ubda", "ext4", "EDQUOT") })
		t.Run("xfs", func(t *testing.T) { limited(t, "/dev/ubdb", "xfs", "ENOSPC") })
		t.Run("unsupported", unsupported)
	}
}

// unsupported: file systems that keep to no limit are told apart, with what would help.
func unsupported(t *testing.T) {
	for _, c := range []struct{ device, kind, remedy string }{
		{"/dev/ubda", "ext4", "tune2fs -O project,quota /dev/ubda"}, {"/dev/ubdb", "xfs", "a remount is not enough"},
		{"tmpfs", "tmpfs", "ext4 or XFS"},
	} {
		dir := mount(t, c.device, c.kind, "")
		var u *Unsupported
		if err := Check(dir); !errors.As(err, &u) || !strings.Contains(u.Remedy, c.remedy) || !strings.Contains(u.Problem, c.kind) {
			t.Errorf("%s without project quotas: %v, want a remedy with %q: %+v", c.kind, err, c.remedy, u)
		}
		if s, err := Look(dir, project); err != nil || s != (State{}) {
			t.Errorf("%s without project quotas: %+v, %v", c.kind, s, err)
		}
		if err := Set(dir, owner, project, mine); err == nil {
			t.Errorf("%s without project quotas took a limit", c.kind)
		}
		if err := Clear(dir, owner, project); err != nil {
			t.Errorf("%s without project quotas: cannot clear: %v", c.kind, err)
		}
	}
}

// limited: a limit comes, changes, is lost, comes again and goes. What goes beyond it is refused with full.
func limited(t *testing.T, device, kind, full string) {
	top := mount(t, device, kind, "prjquota")
	if err := Check(top); err != nil {
		t.Fatal(err)
	}
	dir := plant(t, top)
	must(t, Set(dir, owner, project, mine))
	expect(t, dir, State{Project: project, Inherit: true, Limit: mine})
	for path, want := range map[string]uint32{
		"state/a/b/file": project, "state/a/linked": project, "state/foreign": 0, "other/file": 0, "other": 0, "foreign": 0, "state/mounted/file": 0,
	} {
		if got := projectOf(t, filepath.Join(top, path)); got != want {
			t.Errorf("%s is in project %d, want %d", path, got, want)
		}
	}
	// Beyond the limit writing fails, for the instance alone.
	user(t, false, full, "fill", dir+"/a/big", "3")
	user(t, false, "ok", "fill", top+"/other/big", "3")
	must(t, os.WriteFile(filepath.Join(top, "roots"), make([]byte, 3*mebi), 0o600))
	if s, err := Look(dir, project); err != nil || s.Used.Bytes > mine.Bytes || s.Used.Bytes < mine.Bytes/2 {
		t.Errorf("at its limit: %+v, %v", s, err)
	}
	must(t, os.Remove(dir+"/a/big"))
	user(t, false, full, "crowd", dir+"/a", "60")
	// A higher limit is there at once, and nothing is marked anew for it.
	must(t, Set(dir, owner, project, Amount{Bytes: 8 * mebi, Files: 2000}))
	user(t, false, "ok", "fill", dir+"/a/big", "4")

	// Nobody gets out from within a user namespace; from the first one the owner can.
	user(t, true, "EINVAL", "project", dir+"/a/big", "0")
	user(t, true, "EINVAL", "inherit", dir+"/a", "0")
	user(t, true, "EXDEV", "move", top+"/other/big", dir+"/a/moved")
	user(t, false, "ok", "inherit", dir+"/a", "0")
	user(t, false, "ok", "project", dir+"/a/big", "0")

	// What was lost is put back: first the directory's own, whose loss is seen, then with it all the rest.
	user(t, false, "ok", "inherit", dir, "0")
	must(t, Set(dir, owner, project, mine))
	expect(t, dir, State{Project: project, Inherit: true, Limit: mine})
	if got := projectOf(t, dir+"/a/big"); got != project {
		t.Errorf("a file that had left is in project %d, want %d", got, project)
	}
	user(t, false, full, "fill", dir+"/a/more", "1")

	must(t, Clear(dir, owner, project))
	must(t, Clear(dir, owner, project))
	expect(t, dir, State{})
	for _, path := range []string{"state/a/b/file", "state/a/linked"} {
		if got := projectOf(t, filepath.Join(top, path)); got != 0 {
			t.Errorf("%s is in project %d after Clear", path, got)
		}
	}
	user(t, false, "ok", "fill", dir+"/a/more", "8")
	if s, err := Look(dir, project); err != nil || s.Used != (Amount{}) {
		t.Errorf("after Clear: %+v, %v", s, err)
	}
	moved(t, top)
}

// moved: nothing gets away that is moved about while it is marked.
func moved(t *testing.T, top string) {
	dir := filepath.Join(top, "busy")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Chown(dir, owner, owner))
	c := userCommand(true, "shuffle", dir)
	stop, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		must(t, Clear(dir, owner, project))
		must(t, Set(dir, owner, project, Amount{Bytes: 16 * mebi}))
		must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) || err == nil && e.Type() != 0 && !e.IsDir() {
				return nil
			}
			if err != nil {
				return err
			}
			if p, err := lookUp(path); err == nil && p != project {
				return fmt.Errorf("%s got away, into project %d", path, p)
			}
			return nil
		}))
	}
	must(t, stop.Close())
	must(t, c.Wait())
}

// plant makes a state directory with what the instance and others may have put there before.
func plant(t *testing.T, top string) string {
	t.Helper()
	dir := filepath.Join(top, "state")
	for _, d := range []string{"state/a/b", "state/mounted", "other"} {
		must(t, os.MkdirAll(filepath.Join(top, d), 0o755))
	}
	for _, f := range []string{"state/a/b/file", "state/a/linked", "other/file", "foreign"} {
		must(t, os.WriteFile(filepath.Join(top, f), []byte("text"), 0o644))
	}
	must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, owner, owner))
	}))
	must(t, os.Chown(filepath.Join(top, "other"), owner, owner))
	must(t, os.Link(filepath.Join(dir, "a/linked"), filepath.Join(top, "snapshot")))
	must(t, os.Link(filepath.Join(top, "foreign"), filepath.Join(dir, "foreign")))
	must(t, os.Symlink(filepath.Join(top, "other"), filepath.Join(dir, "link")))
	must(t, os.Symlink(filepath.Join(top, "other/file"), filepath.Join(dir, "a/link")))
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o666))
	must(t, unix.Mount(filepath.Join(top, "other"), filepath.Join(dir, "mounted"), "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(filepath.Join(dir, "mounted"), 0)) })
	return dir
}

func mount(t *testing.T, device, kind, options string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/mnt", "disk-")
	must(t, err)
	if err := unix.Mount(device, dir, kind, 0, options); err != nil {
		t.Fatalf("mount %s as %s: %v", device, kind, err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// expect compares all but what is used.
func expect(t *testing.T, dir string, want State) {
	t.Helper()
	s, err := Look(dir, project)
	s.Used = Amount{}
	if err != nil || s != want {
		t.Errorf("%s: %+v, %v; want %+v", dir, s, err, want)
	}
}

func lookUp(path string) (uint32, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var a attributes
	err = getAttributes(fd, &a)
	return a.Project, err
}

func projectOf(t *testing.T, path string) uint32 {
	t.Helper()
	p, err := lookUp(path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return p
}

// userCommand is a process of the owner's, if nested in a user namespace as under systemd's PrivateUsers=.
func userCommand(nested bool, args ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe", args...)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner, Gid: owner}}
	if nested {
		ids := []syscall.SysProcIDMap{{ContainerID: owner, HostID: owner, Size: 1}}
		c.SysProcAttr.Cloneflags, c.SysProcAttr.UidMappings, c.SysProcAttr.GidMappings = unix.CLONE_NEWUSER, ids, ids
		c.SysProcAttr.Credential.NoSetGroups = true
	}
	return c
}

// user does something as the owner and compares how it ended.
func user(t *testing.T, nested bool, want string, args ...string) {
	t.Helper()
	out, err := userCommand(nested, args...).CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != want {
		t.Errorf("%v: %q, %v; want %q (nested: %t)", args, got, err, want, nested)
	}
}
