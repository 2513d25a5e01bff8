// Package sandbox renders the systemd units of an instance: the server, and the
// set-up step before it. What an instance can see, write and connect to is
// decided here and nowhere else; which addresses it can send packets to is
// internal/netpolicy.
//
// It is pure: it never asks the host. What it must know of it (the version of
// systemd, where resolv.conf leads) comes in Host.
package sandbox

import (
	_ "embed"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencoded/opencoded/internal/instance"
)

// Marker begins every file that opencoded writes for others to read. Only files
// that begin with it are ever changed or deleted.
const Marker = "# Managed by opencoded. Changes here are overwritten: edit the inventory instead."

// Slice holds all instances.
const Slice = "opencode.slice"

// Host is what the units depend on besides the inventory.
type Host struct {
	Opencoded      string // absolute path of the opencoded binary
	SystemdVersion int    // 0 if unknown
	ResolvDir      string // directory to which a symlink /etc/resolv.conf leads; "" if it needs none
	Shell          string // login shell of the agent's commands, /bin/bash or /bin/sh
}

// Unbindable lists the characters of paths that this systemd does not take in
// BindPaths= as its manual has it. From 255 on it drops quotes on the way to the
// program that makes the mounts (systemd pull request 40985); in 262 it does not,
// but stops at colons and double quotes inside of a quoted path. Seen: 252 and 254
// bind all of them; what lies between 257 and 262 is taken to have both faults.
func (h Host) Unbindable() string {
	switch {
	case h.SystemdVersion >= 258:
		return `"':`
	case h.SystemdVersion >= 255:
		return `"'`
	}
	return ""
}

// Input is one instance with what was decided about it elsewhere.
type Input struct {
	Host       Host
	Instance   *instance.Instance
	Opencode   string   // the instance's binary, symbolic links resolved
	Generation string   // value of OPENCODED_GENERATION
	Protect    []string // of Instance.Sandbox.Protect, as the project is laid out, see Protected
}

// Layout is where opencoded keeps what belongs to one instance. All of it is
// root's.
type Layout struct {
	Dir      string // everything below
	Root     string // empty tree that becomes the instance's /
	Config   string // opencode.json; bound on ~/.config/opencode
	Empty    string // stands in for ~/.opencode when the configuration is locked
	Setup    string // scripts of the set-up unit
	Password string // environment file with the generated password
}

// LayoutOf returns the places of an instance.
func LayoutOf(name string) Layout {
	dir := filepath.Join(instance.DataDir, "instances", name)
	return Layout{
		Dir:      dir,
		Root:     filepath.Join(dir, "root"),
		Config:   filepath.Join(dir, "config"),
		Empty:    filepath.Join(dir, "empty"),
		Setup:    filepath.Join(dir, "setup"),
		Password: filepath.Join(dir, "password.env"),
	}
}

// ConfigFile is the generated configuration.
func (l Layout) ConfigFile() string { return filepath.Join(l.Config, "opencode.json") }

// Names of the scripts in Layout.Setup, in the order in which they run.
const (
	PreInit  = "pre-init.sh"
	Managed  = "managed.sh"
	PostInit = "post-init.sh"
)

// setupDir is where the set-up unit sees Layout.Setup.
const setupDir = "/run/opencoded/setup"

// ManagedScript is the set-up step that every instance has.
//
//go:embed managed.sh
var ManagedScript string

// Scripts returns the scripts of the set-up unit by name.
func Scripts(i *instance.Instance) map[string]string {
	out := map[string]string{Managed: ManagedScript}
	if i.Hooks.PreInit != "" {
		out[PreInit] = i.Hooks.PreInit
	}
	if i.Hooks.PostInit != "" {
		out[PostInit] = i.Hooks.PostInit
	}
	return out
}

// Identity returns the part of a unit's text whose change needs a restart:
// IPAddress* directives are re-applied to a running unit by a reload.
func Identity(text string) string {
	var b strings.Builder
	for l := range strings.Lines(text) {
		if !strings.HasPrefix(l, "IPAddress") {
			b.WriteString(l)
		}
	}
	return b.String()
}

// Service renders opencode-NAME.service.
func Service(in Input) (string, error) {
	i, u := in.Instance, &unit{}
	u.comment(strings.TrimPrefix(Marker, "# "))
	u.section("Unit")
	u.set("Description", verbatim("opencode server "+i.Name+" for "+i.Directory))
	u.set("Requires", verbatim(i.SetupName()))
	u.set("After", verbatim(i.SetupName()+" network.target nss-lookup.target"))
	u.assertions(i)
	// Ten failures in ten minutes and systemd gives up, visibly.
	u.set("StartLimitIntervalSec", "10min")
	u.set("StartLimitBurst", "10")
	u.raw(i, "Unit")

	u.section("Service")
	u.set("Type", "exec")
	u.common(in)
	u.confined(in, append([]string{in.Opencode}, arguments(i)...)...)
	u.set("Restart", verbatim(i.Restart))
	u.set("RestartSec", "1s")
	if in.Host.SystemdVersion >= 254 {
		u.set("RestartSteps", "6")
		u.set("RestartMaxDelaySec", "1min")
	}
	u.set("TimeoutStartSec", "60s")
	u.set("TimeoutStopSec", "15s")
	u.set("KillMode", "control-group")
	u.sandbox(in, nil)
	u.raw(i, "Service")

	u.section("Install")
	u.set("WantedBy", "multi-user.target")
	return u.text()
}

// Setup renders opencode-NAME-setup.service. It runs before each start of the
// server, an automatic one included, as the instance's user, in exactly its
// sandbox: hooks see what the server sees and can do no more.
func Setup(in Input) (string, error) {
	i, u := in.Instance, &unit{}
	u.comment(strings.TrimPrefix(Marker, "# "))
	u.section("Unit")
	u.set("Description", verbatim("Set-up of opencode server "+i.Name))
	u.set("PartOf", verbatim(i.ServiceName()))
	u.set("After", "network.target nss-lookup.target")
	u.assertions(i)

	u.section("Service")
	u.set("Type", "oneshot")
	u.set("RemainAfterExit", "yes")
	u.common(in)
	for _, name := range []string{PreInit, Managed, PostInit} {
		if _, ok := Scripts(i)[name]; ok {
			u.confined(in, "/bin/sh", "-eu", filepath.Join(setupDir, name))
		}
	}
	u.set("TimeoutStartSec", "10min")
	u.sandbox(in, []value{bind(LayoutOf(i.Name).Setup, setupDir)})
	return u.text()
}

// assertions keep the mounts below the state directory from being led astray:
// what is bound, or bound over, must be a directory of the instance, not a
// symbolic link that it left there. systemd checks them before every start,
// when no process of the instance is alive.
func (u *unit) assertions(i *instance.Instance) {
	for _, dir := range HomeDirs {
		if dir == ".opencode" && !i.ConfigLock {
			continue // nothing is mounted there
		}
		path := filepath.Join(i.StateDir, dir)
		u.set("AssertPathIsDirectory", verbatim(path))
		u.set("AssertPathIsSymbolicLink", "!"+verbatim(path))
	}
	for _, path := range within(i) {
		u.set("AssertPathIsSymbolicLink", "!"+verbatim(path))
	}
}

// within lists the given paths that lie below what the instance can write, with
// every directory between: each could be replaced by a link to anything that the
// host has, and systemd follows links when it binds.
func within(i *instance.Instance) []string {
	writable := []string{i.StateDir, i.Directory}
	given := append([]instance.Path(nil), i.Sandbox.ReadOnlyPaths...)
	for _, p := range i.Sandbox.ReadWritePaths {
		writable = append(writable, p.Path)
		given = append(given, p)
	}
	for _, p := range i.Sandbox.UnixSockets {
		given = append(given, instance.Path{Path: p})
	}
	var out []string
	for _, p := range given {
		for _, w := range writable {
			for path := p.Path; strings.HasPrefix(path, w+"/"); path = filepath.Dir(path) {
				out = append(out, path)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// HomeDirs are made in every state directory, for the mounts below.
var HomeDirs = []string{".config", ".config/opencode", ".opencode"}

// arguments are those of the opencode binary.
func arguments(i *instance.Instance) []string {
	args := []string{
		"serve", "--print-logs",
		"--hostname", i.Listen.Address.String(), "--port", strconv.Itoa(int(i.Listen.Port)),
	}
	if i.LogLevel != "" {
		args = append(args, "--log-level", i.LogLevel)
	}
	return append(args, i.ExtraArgs...)
}

// raw appends the operator's own directives, so that they have the last word.
func (u *unit) raw(i *instance.Instance, section string) {
	for _, d := range i.Unit {
		if d.Section == section {
			u.set(d.Key, value(d.Value))
		}
	}
}
