package script

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// nobody is the account without rights that every Linux system has.
const nobody = 65534

// unprivileged runs its arguments as somebody who is not root.
func unprivileged() {
	runtime.LockOSThread()
	if os.Geteuid() == 0 {
		give("cannot become nobody", errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)))
	}
	become(os.Args[1:])
}

// unbooted runs its arguments where systemd is not the first process, or does not
// seem to be: sd_booted(3) asks for a directory.
func unbooted() {
	ownMounts()
	if _, err := os.Stat("/run/systemd"); err == nil {
		give("cannot hide systemd", syscall.Mount("tmpfs", "/run/systemd", "tmpfs", 0, ""))
	}
	become(os.Args[1:])
}

// trusted runs its arguments in a copy of the working directory, with the program,
// at a place where only root can write: below /tmp opencoded believes nothing.
func trusted() {
	ownMounts()
	const place = "/mnt"
	give("cannot make a place of root's own", syscall.Mount("tmpfs", place, "tmpfs", 0, "mode=755"))
	self, err := exec.LookPath("opencoded")
	give("cannot find the program", err)
	give("cannot copy the files", errors.Join(copyTree(".", place), copyFile(self, filepath.Join(place, "opencoded"))))
	give("cannot go there", errors.Join(os.Chdir(place), os.Setenv("PATH", place+":"+os.Getenv("PATH"))))
	become(os.Args[1:])
}

// ownMounts takes the rest of this process out of the host's mounts.
func ownMounts() {
	runtime.LockOSThread()
	give("cannot leave the host's mounts", errors.Join(
		syscall.Unshare(syscall.CLONE_NEWNS), syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")))
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || path == from:
			return err
		case e.IsDir():
			info, err := e.Info()
			made := filepath.Join(to, path)
			return errors.Join(err, os.Mkdir(made, 0o700), os.Chmod(made, info.Mode().Perm()))
		case e.Type().IsRegular():
			return copyFile(path, filepath.Join(to, path))
		default:
			return nil
		}
	})
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	// Whatever the umask is: modes are what some scripts are about.
	return errors.Join(os.WriteFile(to, text, 0o600), os.Chmod(to, info.Mode().Perm()))
}

func become(args []string) {
	path, err := exec.LookPath(args[0])
	give("cannot find "+args[0], err)
	give("cannot run "+path, syscall.Exec(path, args, os.Environ()))
}

func give(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(99) // no exit code of opencoded's
	}
}
