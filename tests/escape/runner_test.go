package escape

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/opencoded/opencoded/internal/confine"
)

// outcomePrefix stands before the last word of a process that plays one probe.
const outcomePrefix = "outcome: "

// missingPrefix begins what is said of a probe that could not be tried.
const missingPrefix = "missing: "

// atOnce bounds how many probes run at the same time: those that wait for an answer that never comes cost only time.
const atOnce = 4

// runProbes prints the name and the outcome of each probe of these categories, tab between them.
func runProbes(ids []string) error {
	var probes []probe
	for _, c := range categories {
		if slices.Contains(ids, c.id) {
			probes = append(probes, c.probes...)
		}
	}
	return runAll(probes)
}

// runControls does so with those whose outcome here is compared. Others may do harm outside of an instance.
func runControls([]string) error {
	var probes []probe
	for _, c := range categories {
		probes = append(probes, c.probes...)
	}
	return runAll(slices.DeleteFunc(probes, func(p probe) bool { return p.control == inside }))
}

func runAll(probes []probe) error {
	outcomes, slots := make([]string, len(probes)), make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i, p := range probes {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			outcomes[i] = p.run()
		})
	}
	group.Wait()
	for i, p := range probes {
		fmt.Printf("%s\t%s\n", p.name, outcomes[i])
	}
	return nil
}

// run plays a probe in a process of its own, so that nothing of it is left, and ends it when it hangs.
func (p probe) run() string {
	if reason := missing(p.needs); reason != "" {
		return missingPrefix + reason
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", p.name)
	cmd.Env = append(os.Environ(), roleVariable+"=probe", "LC_ALL=C.UTF-8")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// Whatever a script leaves in the background goes with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = p.limit
	err := cmd.Run()
	if ctx.Err() != nil {
		return "hangs"
	}
	if i := bytes.LastIndex(out.Bytes(), []byte(outcomePrefix)); i >= 0 {
		return strings.Join(strings.Fields(out.String()[i+len(outcomePrefix):]), " ")
	}
	return strings.Join(strings.Fields(fmt.Sprintf("no outcome: %v: %.300s", err, out.String())), " ")
}

func playProbe(args []string) error {
	p, ok := find(args[0])
	if !ok {
		return fmt.Errorf("no probe %q", args[0])
	}
	runtime.LockOSThread() // what a probe changes of its thread, it looks at on that thread
	fmt.Println(outcomePrefix + word(p.call()))
	return nil
}

// word is the name of a result: of the error number in it, if there is one.
func word(err error) string {
	var number unix.Errno
	var said outcome
	switch {
	case err == nil:
		return succeeded
	case errors.As(err, &said):
		return string(said)
	case errors.As(err, &number):
		return unix.ErrnoName(number)
	case os.IsTimeout(err):
		return noAnswer
	}
	return err.Error()
}

// missing is what a probe needs and this place lacks, "" if nothing.
func missing(need string) string {
	kind, name, _ := strings.Cut(need, " ")
	switch kind {
	case "command":
		for _, n := range strings.Fields(name) {
			if _, err := exec.LookPath(n); err != nil {
				return "no command " + n
			}
		}
	case "go":
		if _, err := os.Stat("/usr/local/go/bin/go"); err != nil {
			return missing("command go")
		}
	case "processor":
		if runtime.GOARCH != name {
			return "not a processor of kind " + name
		}
	case "landlock":
		if confine.ABI() < confine.ScopingABI {
			return "a kernel whose Landlock scopes abstract Unix sockets (Linux 6.12)"
		}
	case "xattr":
		if err := attributes("."); errors.Is(err, unix.EOPNOTSUPP) {
			return "a file system with extended attributes of users (tmpfs: Linux 6.6)"
		}
	}
	return ""
}

// shell runs a script in a directory of its own in the project. What it says last is in the outcome: the name of the
// error whose text is in it, or else the text.
func shell(script string) call {
	return func() error {
		dir, err := os.MkdirTemp(".", "probe-")
		if err != nil {
			return err
		}
		dir, err = filepath.Abs(dir)
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err == nil {
			return nil
		}
		for number := unix.Errno(1); number < 134; number++ {
			// The C library's text begins with a capital letter.
			if text := number.Error(); unix.ErrnoName(number) != "" && bytes.Contains(bytes.ToLower(out), []byte(text)) {
				return number
			}
		}
		return outcome(fmt.Sprintf("%v: %s", err, strings.TrimSpace(string(out))))
	}
}
