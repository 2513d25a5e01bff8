package operator

import (
	"bytes"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// Process is a command under way.
type Process struct {
	cmd            *exec.Cmd
	stdout, stderr buffer
}

// Start runs a program in the background, until the test ends at the latest.
func Start(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	p := &Process{cmd: exec.Command(name, args...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.cmd.Process.Kill()
			p.cmd.Wait()
		}
	})
	return p
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stdout is what it has printed so far.
func (p *Process) Stdout() string { return p.stdout.String() }

// Stderr is what it has said on standard error so far.
func (p *Process) Stderr() string { return p.stderr.String() }

// Signal sends it a signal; one that has ended by itself gets none.
func (p *Process) Signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// Wait waits for its end. The exit code of one that a signal ended is -1.
func (p *Process) Wait() Result {
	_ = p.cmd.Wait() // how it ended is in the code
	return Result{p.stdout.String(), p.stderr.String(), p.cmd.ProcessState.ExitCode()}
}

// buffer may be read while it is written to.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
