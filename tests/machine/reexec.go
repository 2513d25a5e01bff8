package machine

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
)

// The roles that a re-executed program takes, told by its zeroth argument: it is not inherited as an environment
// variable would be, and it is what ps shows.
const (
	roleKeeper = "opencoded-machine-keeper"
	roleGuest  = "opencoded-machine-guest"
)

// spec is what the caller tells the keeper, and the keeper the guest, as JSON on standard input.
type spec struct {
	Name  string
	Root  string // of the files below the overlay
	Disk  string // of the changes, or "" for memory
	Binds []Bind
}

// report is what the keeper tells the caller, one JSON value after the other on standard output: first where the
// machine is, and at the end, if anything went wrong, what.
type report struct {
	PID    int    `json:",omitempty"`
	Cgroup string `json:",omitempty"`
	Error  string `json:",omitempty"`
}

var initCalled bool

// Init must be the first call of main, or of TestMain, in a program that boots machines: the program is executed
// again as the machine's keeper and first process, and Init is where these take another way and never return.
// Otherwise it costs one comparison.
func Init() {
	initCalled = true
	switch os.Args[0] {
	case roleKeeper:
		// Pdeathsig means the death of the *thread* that started the process, so the thread must not be Go's to end.
		runtime.LockOSThread()
		os.Exit(keep())
	case roleGuest:
		// Namespaces belong to threads, and the one that calls execve becomes the machine's first process.
		runtime.LockOSThread()
		os.Exit(becomeMachine())
	}
}

// reexec prepares this program to run in a role. /proc/self/exe is right even when the file has been replaced or
// removed since, as "go run" and "go test" do.
func reexec(role string) *exec.Cmd {
	return &exec.Cmd{Path: "/proc/self/exe", Args: []string{role}}
}

// step is one thing to do on the way, named for the error message.
type step struct {
	what string
	do   func() error
}

func runSteps(steps []step) error {
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("cannot %s: %w", s.what, err)
		}
	}
	return nil
}
