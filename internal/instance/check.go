package instance

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencoded/opencoded/internal/document"
)

// checkInventory does the checks that need more than one key, in an order in
// which a reader would: each instance by itself, then each pair.
func checkInventory(inv *Inventory, problems *document.Diagnostics) {
	for _, i := range inv.Instances {
		c := checker{inv: inv, i: i, problems: problems}
		c.required()
		c.listen()
		c.configuration()
		c.arguments()
		c.network()
		c.paths()
		c.protected()
		c.sockets()
		c.directives()
	}
	checkPairs(inv, problems)
	checkUnique(inv, problems)
}

type checker struct {
	inv      *Inventory
	i        *Instance
	problems *document.Diagnostics
}

func (c checker) fail(key, hint, format string, args ...any) {
	c.problems.Add(document.Error, c.i.At(key), hint, "%s.%s: %s", document.Join("instances", c.i.Name), key, fmt.Sprintf(format, args...))
}

func (c checker) warn(key, hint, format string, args ...any) {
	c.problems.Add(document.Warning, c.i.At(key), hint, "%s.%s: %s", document.Join("instances", c.i.Name), key, fmt.Sprintf(format, args...))
}

func (c checker) required() {
	if c.i.Directory == "" && !c.i.refused["directory"] {
		c.problems.Add(document.Error, c.i.Pos, "add directory = \"/path/of/the/project\"",
			"%s has no directory", document.Join("instances", c.i.Name))
	}
}

func (c checker) listen() {
	l := c.i.Listen
	if !c.i.Auth && !l.Address.IsLoopback() {
		c.fail("auth", "leave auth on, or listen on 127.0.0.1",
			"a server on %s without a password would let anyone who reaches it run commands", l.Address)
	}
	if c.i.OpenFirewall && l.Address.IsLoopback() {
		c.warn("open_firewall", "set listen.address, or leave it out",
			"has no effect while the server listens on %s, which no other host reaches", l.Address)
	}
}

func (c checker) configuration() {
	i := c.i
	if i.ConfigFile != "" && slices.ContainsFunc(i.Layers, func(l Layer) bool { return l.File != "" || l.Table.Len() > 0 }) {
		c.warn("config_file", "remove the others, or config_file",
			"is used as it is: config, config_layers, model, agents, skills and commands have no effect")
	}
	for _, layer := range slices.Backward(i.Layers) {
		if v := layer.Table.Get("model"); v != nil && i.Model != "" && v.Pos != i.At("model") {
			if v.Data != i.Model {
				c.fail("model", "keep one of the two", "%q contradicts config.model %q", i.Model, v.Data)
			}
			break
		}
	}
}

// serveFlags are those of opencode 1.18's serve that no key of the inventory
// sets. On an unknown one it prints its help and exits, again and again.
var serveFlags = []string{"--mdns", "--no-mdns", "--mdns-domain", "--cors", "--pure", "--no-pure"}

func (c checker) arguments() {
	for n, a := range c.i.ExtraArgs {
		flag, _, _ := strings.Cut(a, "=")
		if strings.HasPrefix(flag, "-") && !slices.Contains(serveFlags, flag) {
			c.warn(element("extra_args", n), "opencode 1.18 knows "+strings.Join(serveFlags, ", "),
				"opencode serve may not know the flag %s, and would exit", flag)
		}
	}
}

func (c checker) network() {
	n := c.i.Network
	for key, set := range map[string]bool{
		"network_isolation.outbound_allow_cidrs": len(n.Allow) > 0,
		"network_isolation.mode":                 n.Mode != "enforce",
		"network_isolation.dns":                  !n.DNS,
	} {
		if set && !n.Enable {
			c.warn(key, "set network_isolation.enable = true", "has no effect while network_isolation is off")
		}
	}
}

// riskySockets give whoever connects the rights of root on the host.
var riskySockets = []string{
	"/run/docker.sock", "/var/run/docker.sock", "/run/containerd", "/run/podman",
	"/run/dbus", "/run/systemd", "/run/libvirt", "/run/snapd.socket", "/run/lxd.socket",
}

func (c checker) sockets() {
	for n, s := range c.i.Sandbox.UnixSockets {
		key := element("sandbox.unix_sockets.allow", n)
		switch {
		case slices.Contains([]string{"/", "/run", "/var/run", "/var", "/tmp", "/var/lib"}, s):
			c.fail(key, "name the directory of the one server that is meant", "%s holds the sockets of the whole host", s)
		case slices.ContainsFunc(ownTrees(c.inv, nil), func(t tree) bool { return related(s, t.path) }):
			c.fail(key, "name another", "%s belongs to opencoded", s)
		case slices.ContainsFunc(riskySockets, func(r string) bool { return related(s, r) }):
			c.warn(key, "allow it only to an instance that you trust with the host", "whoever connects to %s can become root on the host", s)
		}
	}
}

// hardening are directives whose raw override weakens the sandbox unless it has
// the value given here ("" means that any override does).
var hardening = map[string]string{
	"NoNewPrivileges": "yes", "LockPersonality": "yes", "PrivateDevices": "yes", "PrivateTmp": "yes",
	"PrivateUsers": "yes", "ProtectClock": "yes", "ProtectControlGroups": "yes", "ProtectHostname": "yes",
	"ProtectKernelLogs": "yes", "ProtectKernelModules": "yes", "ProtectKernelTunables": "yes",
	"ProtectSystem": "strict", "ProtectHome": "", "ProtectProc": "invisible", "RestrictRealtime": "yes",
	"RestrictSUIDSGID": "yes", "RestrictNamespaces": "yes", "MountAPIVFS": "yes", "KeyringMode": "private",
	"CapabilityBoundingSet": "", "AmbientCapabilities": "", "SystemCallFilter": "", "SystemCallArchitectures": "native",
	"RestrictAddressFamilies": "", "DevicePolicy": "closed", "DeviceAllow": "", "BindPaths": "", "BindReadOnlyPaths": "",
	"ReadWritePaths": "", "IPAddressAllow": "", "IPAddressDeny": "any", "KillMode": "control-group",
	"SupplementaryGroups": "", "ExecStartPre": "", "UMask": "", "PermissionsStartOnly": "", "SecureBits": "",
	"Delegate": "no", "JoinsNamespaceOf": "", "NetworkNamespacePath": "", "PassEnvironment": "", "RemoveIPC": "yes",
	"PrivateIPC": "yes", "TemporaryFileSystem": "", "BindLogSockets": "no",
}

func (c checker) directives() {
	for _, d := range c.i.Unit {
		safe, known := hardening[d.Key]
		if known && (safe == "" || d.Value != safe) {
			c.problems.Add(document.Warning, d.Pos, "keep it only if you know that you need it",
				"%s.unit.%s.%s: %q can weaken the sandbox", document.Join("instances", c.i.Name), d.Section, d.Key, d.Value)
		}
	}
}

// checkUnique finds what two instances cannot share.
func checkUnique(inv *Inventory, problems *document.Diagnostics) {
	users := map[string]*Instance{}
	ports := map[uint16]*Instance{}
	for _, i := range inv.Instances {
		name := document.Join("instances", i.Name)
		if other := users[i.User]; other != nil {
			problems.Add(document.Error, i.At("user"), "give each instance an account of its own",
				"%s.user: %q is also the user of %s; one could read what the other has", name, i.User, document.Join("instances", other.Name))
		}
		users[i.User] = i
		if owner := inv.Get(strings.TrimPrefix(i.User, "opencode-")); owner != nil && owner != i && i.User == UserName(owner.Name) {
			problems.Add(document.Error, i.At("user"), "name another",
				"%s.user: %q is the account of %s", name, i.User, document.Join("instances", owner.Name))
		}
		// An address to listen on is always one of the host's, and the guard
		// tells instances apart by port: so a port is unique, whatever the address.
		if i.refused["listen.port"] {
			continue
		}
		if other := ports[i.Listen.Port]; other != nil {
			problems.Add(document.Error, i.At("listen.port"), "give each instance a port of its own",
				"%s.listen.port: %d is also the port of %s", name, i.Listen.Port, document.Join("instances", other.Name))
		}
		ports[i.Listen.Port] = i
	}
}
