package guest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// The agent is the test binary itself, started in the guest as a service. Requests and events are JSON values, one
// command after the other.

const (
	portName      = "opencoded.agent"
	portPath      = "/dev/virtio-ports/" + portName // a link that udev makes
	agentVariable = "OPENCODED_VM_AGENT"
	binaryInside  = "/usr/local/lib/opencoded-vm/tests"
)

// agentUnit starts as early as any service of the system's, so that a boot which hangs can be asked why.
const agentUnit = `[Unit]
Description=runs the commands of tests
StartLimitIntervalSec=0
[Service]
Environment=` + agentVariable + `=1
ExecStart=` + binaryInside + `
Restart=always
RestartSec=100ms
OOMScoreAdjust=-1000
[Install]
WantedBy=multi-user.target
`

type request struct {
	Argv, Env []string
	Timeout   time.Duration // from the request's arrival; 0 has passed already
}

// event is one of: the agent is there; a part of a command's output; its end, with an error unless it
// succeeded.
type event struct {
	Ready  bool   `json:",omitempty"`
	Output []byte `json:",omitempty"`
	Ended  bool   `json:",omitempty"`
	Error  string `json:",omitempty"`
}

// Init makes this process the agent if it was started as such: call it first thing in TestMain.
func Init() {
	if os.Getenv(agentVariable) == "" {
		return
	}
	os.Unsetenv(agentVariable)
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve() error {
	port, err := os.OpenFile(portPath, os.O_RDWR, 0)
	if err != nil {
		return err // started again until the port is there
	}
	defer port.Close()
	events := json.NewEncoder(port)
	if err := events.Encode(event{Ready: true}); err != nil {
		return err
	}
	for requests := json.NewDecoder(port); ; {
		var r request
		if err := requests.Decode(&r); err != nil {
			return err
		}
		if err := events.Encode(perform(r, output{events})); err != nil {
			return err
		}
	}
}

// perform runs a command in a process group of its own, which is killed when the time is over.
func perform(r request, out io.Writer) event {
	ctx, cancel := context.WithTimeout(context.Background(), r.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.Argv[0], r.Argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = append([]string{"HOME=/root", "USER=root", "SHELL=/bin/bash", "LANG=C.UTF-8", "SYSTEMD_PAGER=",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, r.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return event{Ended: true, Error: fmt.Sprintf("%q: %v", r.Argv, cmp.Or(ctx.Err(), err))}
	}
	return event{Ended: true}
}

// output passes on what a command prints.
type output struct{ events *json.Encoder }

func (o output) Write(p []byte) (int, error) {
	return len(p), o.events.Encode(event{Output: p})
}
