package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/opencoded/opencoded/internal/control"
	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/instance"
)

// serve answers on the sockets until the context ends.
func (d *daemon) serve(ctx context.Context) error {
	l, err := listenUnix(control.Socket, 0o666) // who may ask what is decided request by request
	if err != nil {
		return fmt.Errorf("cannot listen for the command line: %w", err)
	}
	m, err := listenUnix(MetricsSocket, 0o600)
	if err != nil {
		return fmt.Errorf("cannot serve metrics: %w", err)
	}
	go serveHTTP(ctx, l, d.routes(ctx))
	go serveHTTP(ctx, m, d.metrics.handler())
	return nil
}

func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connection{}, c) }}
	go func() {
		<-ctx.Done()
		s.Close()
	}()
	_ = s.Serve(l) // it ends with the listener
}

// connection is the key of a request's connection in its context.
type connection struct{}

// peer is who is on the other side of a connection, by the kernel's word at the time when it connected.
type peer struct {
	uid    uint32
	name   string // "" if it has none
	groups []string
}

func peerOf(c net.Conn) (p peer, err error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return p, fmt.Errorf("not a Unix socket: %T", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return p, err
	}
	var groups []uint32
	controlErr := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			p.uid = cred.Uid
			groups, err = peerGroups(fd)
			groups = append(groups, cred.Gid)
		}
	})
	if err == nil {
		err = controlErr
	}
	if found, lookupErr := user.LookupId(strconv.FormatUint(uint64(p.uid), 10)); lookupErr == nil {
		p.name = found.Username
	}
	for _, g := range groups {
		if found, lookupErr := user.LookupGroupId(strconv.FormatUint(uint64(g), 10)); lookupErr == nil {
			p.groups = append(p.groups, found.Name)
		}
	}
	return p, err
}

// peerGroups are the supplementary groups of the process on the other side (SO_PEERGROUPS, from Linux 4.13).
func peerGroups(fd uintptr) ([]uint32, error) {
	groups := make([]uint32, 65536) // as many as a process can have: NGROUPS_MAX
	size := uint32(len(groups) * 4)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil, errno
	}
	return groups[:size/4], nil
}

// isOperator reports whether the inventory lets somebody operate instances.
func (p peer) isOperator(operators []string) bool {
	return slices.ContainsFunc(operators, func(o string) bool {
		if group, ok := strings.CutPrefix(o, "@"); ok {
			return slices.Contains(p.groups, group)
		}
		return p.name != "" && p.name == o
	})
}

// routes are what can be asked. Root may ask everything, operators everything about instances.
func (d *daemon) routes(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, rootOnly bool, f func(w http.ResponseWriter, r *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			err := d.allowed(r, rootOnly)
			if err == nil {
				err = f(w, r)
			}
			if err != nil {
				answerError(w, err)
			}
		})
	}
	handle("GET /v1/state", false, func(w http.ResponseWriter, _ *http.Request) error { return json.NewEncoder(w).Encode(d.now()) })
	handle("POST /v1/reload", true, func(_ http.ResponseWriter, r *http.Request) error { return d.ask(r.Context(), "reload") })
	for _, what := range []host.Operation{host.Start, host.Stop, host.Restart} {
		handle("POST /v1/instances/{name}/"+string(what), false, func(_ http.ResponseWriter, r *http.Request) error {
			name := r.PathValue("name")
			d.Log.Info("asked to "+string(what), instanceField(name), action(string(what)), zap.String("by", who(r)))
			return d.host.Operate(r.Context(), what, name)
		})
	}
	handle("GET /v1/instances/{name}/access", false, func(w http.ResponseWriter, r *http.Request) error {
		a, err := d.access(r.Context(), r.PathValue("name"))
		if err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(a)
	})
	handle("POST /v1/instances/{name}/password", false, func(_ http.ResponseWriter, r *http.Request) error {
		name := r.PathValue("name")
		if _, err := d.instance(name); err != nil {
			return err
		}
		d.Log.Info("asked for another password", instanceField(name), action("rotate"), zap.String("by", who(r)))
		if err := host.RotatePassword(name); err != nil {
			return err
		}
		return d.ask(r.Context(), "another password for "+name)
	})
	handle("GET /v1/instances/{name}/logs", false, func(w http.ResponseWriter, r *http.Request) error {
		q := r.URL.Query()
		lines, _ := strconv.Atoi(q.Get("lines"))
		stop, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return host.Logs(stop, flushing{w}, r.PathValue("name"), lines, q.Get("since"), q.Get("follow") == "true")
	})
	return mux
}

// forbidden is an error that is somebody's lack of rights.
type forbidden struct{ error }

func (d *daemon) allowed(r *http.Request, rootOnly bool) error {
	c, _ := r.Context().Value(connection{}).(net.Conn)
	p, err := peerOf(c)
	if err != nil {
		return forbidden{fmt.Errorf("cannot find out who is asking: %w", err)}
	}
	inv := d.monitor.inventory()
	switch {
	case p.uid == 0:
		return nil
	case rootOnly:
		return forbidden{fmt.Errorf("only root may do this")}
	case inv != nil && p.isOperator(inv.Host.Operators):
		return nil
	}
	return forbidden{fmt.Errorf("%s is no operator (add it, or one of its groups with a leading @, to host.operators in %s)",
		nameOr(p), d.Inventory)}
}

func nameOr(p peer) string {
	if p.name != "" {
		return p.name
	}
	return fmt.Sprintf("the user with id %d", p.uid)
}

func who(r *http.Request) string {
	c, _ := r.Context().Value(connection{}).(net.Conn)
	p, _ := peerOf(c)
	return nameOr(p)
}

func answerError(w http.ResponseWriter, err error) {
	refusal, ok := err.(*control.Refusal)
	if !ok {
		refusal = &control.Refusal{Message: err.Error()}
	}
	code := http.StatusConflict
	if _, ok := err.(forbidden); ok {
		code = http.StatusForbidden
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(refusal) // who asked may be gone
}

// ask has the host reconciled and waits for the outcome.
func (d *daemon) ask(ctx context.Context, why string) error {
	reply := make(chan error, 1)
	d.tell(reason{text: why, source: true, reply: reply})
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// instance is one that the inventory in force enables.
func (d *daemon) instance(name string) (*instance.Instance, error) {
	if inv := d.monitor.inventory(); inv != nil {
		if i := inv.Get(name); i != nil && i.Enable {
			return i, nil
		}
	}
	return nil, fmt.Errorf("the inventory in force has no instance %q", name)
}

func (d *daemon) access(ctx context.Context, name string) (control.Access, error) {
	i, err := d.instance(name)
	if err != nil {
		return control.Access{}, err
	}
	a, err := d.host.Access(ctx, i, d.monitor.inventoryDir())
	return control.Access(a), err
}

// flushing sends each line on at once.
type flushing struct{ http.ResponseWriter }

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.ResponseWriter.Write(b)
	if flusher, ok := f.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
	return n, err
}
