package escape

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sys makes a system call. Integers and what unsafe.Pointer points to are passed on as they are.
func sys(number uintptr, args ...any) call {
	return func() error {
		var a [6]uintptr
		for i, v := range args {
			switch v := v.(type) {
			case int:
				a[i] = uintptr(v)
			case uintptr:
				a[i] = v
			case string:
				b, err := unix.BytePtrFromString(v)
				if err != nil {
					return err
				}
				a[i] = uintptr(unsafe.Pointer(b))
				kept = append(kept, unsafe.Pointer(b))
			case []byte:
				a[i] = uintptr(unsafe.Pointer(&v[0]))
				kept = append(kept, unsafe.Pointer(&v[0]))
			case func() int:
				a[i] = uintptr(v())
			default:
				return fmt.Errorf("internal error: an argument of type %T", v)
			}
		}
		if _, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
			return errno
		}
		return nil
	}
}

// kept keeps alive what only a uintptr points to.
var kept []unsafe.Pointer

// number is an environment variable that victims.environment sets, as a number.
func number(name string) func() int {
	return func() int {
		n, err := strconv.Atoi(os.Getenv(name))
		if err != nil {
			panic(err)
		}
		return n
	}
}

func read(path string) call   { return opened(path, unix.O_RDONLY) }
func write(path string) call  { return opened(path, unix.O_WRONLY) } // without writing anything
func lookAt(path string) call { return opened(path, unix.O_PATH) }

// opened opens a path, in which $VARIABLES stand for what environment sets, and reads of what it opens for reading.
func opened(path string, flags int) call {
	return func() error {
		fd, err := unix.Open(os.ExpandEnv(path), flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if flags != unix.O_RDONLY {
			return nil
		}
		_, err = unix.Read(fd, make([]byte, 16))
		if err == unix.EISDIR {
			_, err = unix.ReadDirent(fd, make([]byte, 4096))
		}
		return err
	}
}

func create(path string) call {
	return func() error {
		path := os.ExpandEnv(path)
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		return errors.Join(f.Close(), os.Remove(path))
	}
}

// moved renames a path, and back if that was possible.
func moved(from, to string) call {
	return func() error {
		from, to := os.ExpandEnv(from), os.ExpandEnv(to)
		if err := os.Rename(from, to); err != nil {
			return err
		}
		return os.Rename(to, from)
	}
}

// replaced puts a new file in a path's place, and removes it if that was possible.
func replaced(path string) call {
	return func() error {
		f, err := os.CreateTemp(".", "new-")
		if err != nil {
			return err
		}
		defer os.Remove(f.Name())
		f.Close()
		return os.Rename(f.Name(), os.ExpandEnv(path))
	}
}

// linked makes a link in the project and reads through it.
func linked(link func(target, name string) error, target string) call {
	return func() error {
		name := fmt.Sprintf("link-%d", os.Getpid())
		if err := link(os.ExpandEnv(target), name); err != nil {
			return err
		}
		defer os.Remove(name)
		return read(name)()
	}
}

// raced swaps a harmless file for a link to a secret, over and over, while it reads through the name.
func raced(secret string) call {
	return func() error {
		name := fmt.Sprintf("race-%d", os.Getpid())
		if err := os.WriteFile(name+"-file", nil, 0o600); err != nil {
			return err
		}
		if err := os.Symlink(secret, name+"-link"); err != nil {
			return err
		}
		defer os.Remove(name + "-file")
		defer os.Remove(name + "-link")
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 2000 {
				_ = unix.Renameat2(unix.AT_FDCWD, name+"-file", unix.AT_FDCWD, name+"-link", unix.RENAME_EXCHANGE)
			}
		}()
		last := error(outcome("never met the link"))
		for {
			select {
			case <-done:
				return last
			default:
			}
			text, err := os.ReadFile(name + "-file")
			if len(text) > 0 {
				return nil
			}
			if err != nil {
				last = err
			}
		}
	}
}

// either takes one of several errors for an outcome: which it is depends on the version of systemd.
func either(said string, tried call, numbers ...unix.Errno) call {
	return func() error {
		err := tried()
		for _, n := range numbers {
			if errors.Is(err, n) {
				return outcome(said)
			}
		}
		return err
	}
}

// cloned starts a process in a new namespace.
func cloned(flags uintptr) call {
	return func() error {
		cmd := exec.Command("/bin/true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		return cmd.Run()
	}
}

// withFile makes a system call on an open file, which is the first argument.
func withFile(path string, flags int, number uintptr, rest ...any) call {
	return func() error {
		fd, err := unix.Open(os.ExpandEnv(path), flags|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return sys(number, append([]any{fd}, rest...)...)()
	}
}

// withProcess makes a system call on a pidfd of the process that a variable names.
func withProcess(variable string, trap uintptr, rest ...any) call {
	return func() error {
		fd, err := unix.PidfdOpen(number(variable)(), 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return sys(trap, append([]any{fd}, rest...)...)()
	}
}

// scratch makes a file or directory in the project and does something to it.
func scratch(directory bool, do func(name string) error) call {
	return func() error {
		name := fmt.Sprintf("scratch-%d", os.Getpid())
		err := os.WriteFile(name, []byte("text"), 0o600)
		if directory {
			err = errors.Join(os.Remove(name), os.Mkdir(name, 0o700))
		}
		if err != nil {
			return err
		}
		defer os.RemoveAll(name)
		return do(name)
	}
}

// asRoot runs a program that prints a user id.
func asRoot(program string, args ...string) call {
	return func() error {
		out, err := exec.Command(program, args...).Output()
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(out)) != "0" {
			return outcome("runs as the instance's user")
		}
		return nil
	}
}

// capable runs a copy of this program whose file has all capabilities; it says whether it can use them.
func capable() error {
	cmd := exec.Command(capableProgram)
	cmd.Env = append(os.Environ(), roleVariable+"=raw")
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	return said(string(out))
}

func openRaw([]string) error {
	fmt.Print(word(socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)()))
	return nil
}

func said(text string) error {
	if text = strings.TrimSpace(text); text != succeeded {
		return outcome(text)
	}
	return nil
}

// executed runs a program that exists in memory only, and takes its exit code for an error number.
func executed(program []byte) call {
	return func() error {
		fd, err := unix.MemfdCreate("program", 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "program")
		defer f.Close()
		if _, err := f.Write(program); err != nil {
			return err
		}
		err = exec.Command(fmt.Sprintf("/proc/self/fd/%d", fd)).Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			if status := exit.Sys().(syscall.WaitStatus); status.Signaled() {
				return outcome("killed")
			}
			return unix.Errno(exit.ExitCode())
		}
		return err
	}
}

// descriptors looks for an open file of any process that leads out of what the instance sees.
func descriptors() error {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, p := range processes {
		dir := "/proc/" + p.Name() + "/fd/"
		open, err := os.ReadDir(dir)
		if _, isNumber := strconv.Atoi(p.Name()); err != nil || isNumber != nil {
			continue
		}
		for _, f := range open {
			target, err := os.Readlink(dir + f.Name())
			if err != nil || !strings.HasPrefix(target, "/") || strings.HasSuffix(target, " (deleted)") {
				continue
			}
			if _, err := os.Lstat(target); errors.Is(err, os.ErrNotExist) {
				return outcome("finds " + target)
			}
		}
	}
	return outcome("finds none")
}

// attributes sets an extended attribute in a directory.
func attributes(dir string) error {
	f, err := os.CreateTemp(dir, "xattr-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	return unix.Fsetxattr(int(f.Fd()), "user.note", []byte("1"), 0)
}
