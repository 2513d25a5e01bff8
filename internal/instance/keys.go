package instance

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/lazy"
)

var defaultAddress = netip.AddrFrom4([4]byte{127, 0, 0, 1})

const (
	defaultPort         = 8080
	defaultStartTimeout = 60 * time.Second
)

// hostKeys are the keys of [host].
var hostKeys = []key[Host]{
	{"opencode", "found in root's PATH", "the opencode binary of every instance that names none",
		one(func(h *Host) *string { return &h.Opencode }, path)},
	{"state_root", StateRoot, "parent of the state directories",
		one(func(h *Host) *string { return &h.StateRoot }, homeDir)},
	{"unit_dir", UnitDir, "where unit files are written; /run/systemd/system where /etc is read-only",
		one(func(h *Host) *string { return &h.UnitDir }, unitDir)},
	{"uid_range", "the system range of the host", "first and last id of the accounts that opencoded makes", uidRange},
	{"egress_layout", "auto", "per-instance: a table each; shared: one for all, which costs the host the same for any number; auto: shared from 17 on",
		one(func(h *Host) *string { return &h.EgressLayout }, oneOf("auto", "per-instance", "shared"))},
	{"auto_apply", "true", "the daemon applies what changes in this file and in what it names; false: it only says what would change",
		one(func(h *Host) *bool { return &h.AutoApply }, boolean)},
	{"operators", "[]", "users and, with a leading @, groups who may start, stop, read logs and attach without being root",
		many(func(h *Host) *[]string { return &h.Operators }, operator)},
	{"metrics_listen", "", "an address and port where the daemon serves its metrics, besides /run/opencoded/metrics.sock",
		one(func(h *Host) *netip.AddrPort { return &h.MetricsListen }, addressPort)},
}

// instanceKeys are the keys of an instance and of [defaults].
var instanceKeys = []key[Instance]{
	{"enable", "true", "false: stopped and removed like an absent one, still validated",
		one(func(i *Instance) *bool { return &i.Enable }, boolean)},
	{"opencode", "host.opencode", "the opencode binary of this instance",
		one(func(i *Instance) *string { return &i.Opencode }, path)},
	{"directory", "", "the project root",
		one(func(i *Instance) *string { return &i.Directory }, path)},
	{"state_dir", "state_root/NAME", "HOME of the service",
		one(func(i *Instance) *string { return &i.StateDir }, homeDir)},
	{"user", "opencode-NAME", "the account that the server runs as",
		one(func(i *Instance) *string { return &i.User }, account)},
	{"group", "the user's own", "the group that the server runs as",
		one(func(i *Instance) *string { return &i.Group }, account)},
	{"extra_groups", "[]", "further groups of the service",
		many(func(i *Instance) *[]string { return &i.ExtraGroups }, account)},

	{"listen.address", "127.0.0.1", "the address that the server binds",
		one(func(i *Instance) *netip.Addr { return &i.Listen.Address }, address)},
	{"listen.port", "8080", "the TCP port that the server binds",
		one(func(i *Instance) *uint16 { return &i.Listen.Port }, port)},
	{"open_firewall", "false", "opens the port in the firewall that manages the host: firewalld or ufw",
		one(func(i *Instance) *bool { return &i.OpenFirewall }, boolean)},
	{"auth", "true", "a generated password guards the server",
		one(func(i *Instance) *bool { return &i.Auth }, boolean)},

	{"environment", "{}", "environment variables", variables},
	{"environment_file", "[]", "files of NAME=value lines, for secrets; they win over environment",
		oneOrMany(func(i *Instance) *[]Path { return &i.EnvironmentFiles }, optionalPath)},
	{"credentials", "{}", "secrets by name, for the agent alone in $CREDENTIALS_DIRECTORY: files that root can read", credentials(false)},
	{"encrypted_credentials", "{}", "the same, of files that systemd-creds encrypt has written for this host", credentials(true)},
	{"path", "[]", "directories put in front of PATH",
		many(func(i *Instance) *[]string { return &i.Path }, searchDir)},

	{"log_level", "opencode's own", "how much the server logs: debug, info, warn, error",
		one(func(i *Instance) *string { return &i.LogLevel }, logLevel)},
	{"model", "", "the model, as provider/model",
		one(func(i *Instance) *string { return &i.Model }, line)},
	{"provider", "", "completes a model that names no provider",
		one(func(i *Instance) *string { return &i.provider },
			matching(lazy.MustCompile(`^[^/\s]+$`), "a provider", "use its bare id, such as anthropic"))},
	{"extra_args", "[]", "arguments put behind those of opencode serve",
		many(func(i *Instance) *[]string { return &i.ExtraArgs }, argument)},

	{"config_layers", "[]", "files of keys of opencode.json (TOML, JSON or JSONC), relative to the inventory; config comes last",
		many(func(*Instance) *[]string { return new([]string) }, layerPath)},
	{"config", "{}", "keys of opencode.json", config},
	{"agents", "{}", "markdown files of agents, by name", namedFiles},
	{"skills", "{}", "folders of skills with their SKILL.md, by name", namedFiles},
	{"commands", "{}", "markdown files of commands, by name", namedFiles},
	{"config_file", "", "an opencode.json used as it is instead of a generated one",
		one(func(i *Instance) *string { return &i.ConfigFile }, path)},
	{"config_lock", "true", "the agent cannot override the configuration",
		one(func(i *Instance) *bool { return &i.ConfigLock }, boolean)},

	{"hooks.pre_init", "", "shell script run before the managed set-up steps",
		one(func(i *Instance) *string { return &i.Hooks.PreInit }, script)},
	{"hooks.post_init", "", "shell script run after the managed set-up steps",
		one(func(i *Instance) *string { return &i.Hooks.PostInit }, script)},

	{"sandbox.read_write_paths", "[]", "writable besides the directory and the state directory",
		many(func(i *Instance) *[]Path { return &i.Sandbox.ReadWritePaths }, optionalPath)},
	{"sandbox.read_only_paths", "[]", "visible, not writable",
		many(func(i *Instance) *[]Path { return &i.Sandbox.ReadOnlyPaths }, optionalPath)},
	{"sandbox.inaccessible_paths", "[]", "hidden even inside what is visible",
		many(func(i *Instance) *[]Path { return &i.Sandbox.InaccessiblePaths }, optionalPath)},
	{"sandbox.unix_sockets.allow", "[]", "sockets, or their directories, that can be connected to",
		many(func(i *Instance) *[]string { return &i.Sandbox.UnixSockets }, path)},
	{"sandbox.protect", "true", "what exists of .git/hooks, .envrc, .vscode and .idea in the project is read-only; a list protects more, false nothing", protect},
	{"sandbox.allow_namespaces", "false", "bubblewrap and other user namespaces work inside",
		one(func(i *Instance) *bool { return &i.Sandbox.AllowNamespaces }, boolean)},

	{"network_isolation.enable", "false", "drop what the instance sends anywhere but to the allowlist",
		one(func(i *Instance) *bool { return &i.Network.Enable }, boolean)},
	{"network_isolation.outbound_allow_cidrs", "[]", "networks and addresses that can be reached; :PORT or :PORT/udp behind one narrows it", destinations},
	{"network_isolation.mode", "enforce", "report lets everything pass, and logs and counts what enforce would block",
		one(func(i *Instance) *string { return &i.Network.Mode }, oneOf("enforce", "report"))},
	{"network_isolation.dns", "true", "false closes port 53 of this host too: a resolver forwards what the agent asks",
		one(func(i *Instance) *bool { return &i.Network.DNS }, boolean)},
	{"network_isolation.on_block", "drop", "drop lets a blocked connection time out, reject fails it at once",
		one(func(i *Instance) *string { return &i.Network.OnBlock }, oneOf("drop", "reject"))},
	{"network_isolation.log_rate", "5/minute", "how many blocked packets are logged",
		one(func(i *Instance) *string { return &i.Network.LogRate },
			matching(rateRule, "a rate", `use a number and a unit, such as "5/minute", "1/second", "100/hour" or "10/day"`))},

	{"resources.memory_max", "", "memory above which the instance is killed",
		one(func(i *Instance) *string { return &i.Resources.MemoryMax }, size)},
	{"resources.memory_high", "", "memory above which the instance is slowed down",
		one(func(i *Instance) *string { return &i.Resources.MemoryHigh }, size)},
	{"resources.cpu_quota", "", "CPU time, 100% is one core",
		one(func(i *Instance) *string { return &i.Resources.CPUQuota }, matching(quotaRule, "a share of CPU time", `use a percentage, such as "150%"`))},
	{"resources.tasks_max", "4096", "number of processes and threads",
		one(func(i *Instance) *string { return &i.Resources.TasksMax }, scalar(matching(tasksRule, "a number of tasks", `use a number, a percentage or "infinity"`)))},
	{"resources.nofile", "", "number of open files, or soft:hard",
		one(func(i *Instance) *string { return &i.Resources.NOFile }, scalar(matching(filesRule, "a number of files", `use a number or "soft:hard"`)))},
	{"resources.state_max", "", "disk space that the state directory may take, by project quotas of ext4 or XFS",
		one(func(i *Instance) *uint64 { return &i.Resources.StateMax }, diskSpace)},

	{"start_timeout", "60s", "time from started to healthy",
		one(func(i *Instance) *time.Duration { return &i.StartTimeout }, duration(time.Second, time.Hour))},
	{"health.interval", "10s", "time between two probes of the server",
		one(func(i *Instance) *time.Duration { return &i.Health.Interval }, duration(time.Second, time.Hour))},
	{"health.timeout", "3s", "time that a probe may take",
		one(func(i *Instance) *time.Duration { return &i.Health.Timeout }, duration(100*time.Millisecond, time.Minute))},
	{"health.failures", "3", "how many probes in a row fail before the daemon restarts the server; 0: it never does",
		one(func(i *Instance) *int { return &i.Health.Failures }, integer(0, 1000))},
	{"restart", "on-failure", "when systemd starts the server again: on-failure, always, no",
		one(func(i *Instance) *string { return &i.Restart }, oneOf("on-failure", "always", "no"))},
	{"unit", "{}", "raw systemd directives, the last word", directives},
}

var size = scalar(matching(sizeRule, "an amount of memory", `use a number with K, M, G or T, a percentage or "infinity"`))

func unitDir(v *document.Value) (string, error) {
	s, err := path(v)
	if err == nil && s != "/etc/systemd/system" && s != "/run/systemd/system" {
		return "", refuse("use /etc/systemd/system or /run/systemd/system", "systemd does not let the administrator put units into %q", s)
	}
	return s, err
}

func searchDir(v *document.Value) (string, error) {
	s, err := path(v)
	if err == nil && strings.Contains(s, ":") {
		return "", refuse("", "%q contains a colon, which separates the directories of PATH", s)
	}
	return s, err
}

func logLevel(v *document.Value) (string, error) {
	s, err := text(v)
	if err != nil {
		return "", err
	}
	// opencode prints its help and exits on a level in lower case.
	s = strings.ToUpper(s)
	if !slices.Contains([]string{"DEBUG", "INFO", "WARN", "ERROR"}, s) {
		return "", refuse("use debug, info, warn or error", "%q is not a log level", v.Data)
	}
	return s, nil
}

// ownedFlags are those of `opencode serve` that other keys set, or that make it
// print something and exit.
var ownedFlags = map[string]string{
	"--port":       "use listen.port",
	"--hostname":   "use listen.address",
	"--print-logs": "it is always given",
	"--log-level":  "use log_level",
	"--help":       "the server would print its help and exit",
	"-h":           "the server would print its help and exit",
	"--version":    "the server would print its version and exit",
	"-v":           "the server would print its version and exit",
}

func argument(v *document.Value) (string, error) {
	s, err := line(v)
	if err != nil {
		return "", err
	}
	flag, _, _ := strings.Cut(s, "=")
	if remedy, owned := ownedFlags[flag]; owned {
		return "", refuse(remedy, "opencoded owns the flag %s", flag)
	}
	return s, nil
}

func config(r *reader, _ *Instance, v *document.Value) {
	if v.Table() == nil {
		r.fail(v.Pos, "write [instances.NAME.config]", "expected a table, not %s", article(v.Kind()))
	}
	// The layers stay apart, see layersOf.
}

// layerPath accepts an absolute path, or one relative to the inventory.
func layerPath(v *document.Value) (string, error) {
	s, err := line(v)
	switch {
	case err != nil:
		return "", err
	case s == "":
		return "", refuse("write the path of a file", "is empty")
	case len(s) > maxPath:
		return "", refuse("choose a shorter one", "no path can be that long (%d bytes)", len(s))
	}
	return filepath.Clean(s), nil
}

// namedFiles reads { name = "path" }. What the files hold is internal/config's.
func namedFiles(r *reader, _ *Instance, v *document.Value) {
	if v.Table() == nil {
		r.fail(v.Pos, "write "+r.key+` = { NAME = "path" }`, "expected a table, not %s", article(v.Kind()))
		return
	}
	for e := range v.Table().All() {
		at := *r
		at.key = r.key + "." + document.Join(e.Key)
		take(&at, e.Value, layerPath)
	}
}

// ownedDirectives would break what opencoded promises elsewhere.
var ownedDirectives = map[string]string{
	"User": "use user", "Group": "use group", "DynamicUser": "use user",
	"ExecStart": "use opencode and extra_args", "Type": "readiness depends on it",
	"Slice": "all instances share opencode.slice", "RootDirectory": "the sandbox depends on it",
	"RootDirectoryStartOnly": "the egress rules depend on it",
}

var directiveRule = lazy.MustCompile(`^[A-Za-z][A-Za-z0-9-]*$`)

// directives reads unit = { Service = { Key = value } }; a list gives one line
// for each element.
func directives(r *reader, i *Instance, v *document.Value) {
	i.Unit = nil
	if v.Table() == nil {
		r.fail(v.Pos, `write unit = { Service = { Nice = 5 } }`, "expected a table, not %s", article(v.Kind()))
		return
	}
	for section := range v.Table().All() {
		at := *r
		at.key = r.key + "." + document.Join(section.Key)
		if !slices.Contains([]string{"Unit", "Service"}, section.Key) || section.Value.Table() == nil {
			at.fail(section.KeyPos, "use the tables Unit and Service", "is not a section of the service")
			continue
		}
		for e := range section.Value.Table().All() {
			at.key = r.key + "." + section.Key + "." + document.Join(e.Key)
			directive(&at, i, section.Key, e)
		}
	}
}

func directive(r *reader, i *Instance, section string, e document.Entry) {
	if !directiveRule.MatchString(e.Key) {
		r.fail(e.KeyPos, "", "%q is not the name of a directive", e.Key)
		return
	}
	if remedy, owned := ownedDirectives[e.Key]; owned && section == "Service" {
		r.fail(e.KeyPos, remedy, "opencoded owns this directive")
		return
	}
	values, ok := e.Value.List()
	if !ok {
		values = []*document.Value{e.Value}
	}
	for _, v := range values {
		if s, ok := take(r, v, raw); ok {
			i.Unit = append(i.Unit, Directive{Section: section, Key: e.Key, Value: s, Pos: v.Pos})
		}
	}
}

// raw accepts any scalar as systemd would spell it.
func raw(v *document.Value) (string, error) {
	switch d := v.Data.(type) {
	case bool:
		if d {
			return "yes", nil
		}
		return "no", nil
	case int64:
		return strconv.FormatInt(d, 10), nil
	}
	s, err := line(v)
	if err == nil && strings.HasSuffix(s, `\`) {
		return "", refuse("", "ends with a backslash, which would continue the line")
	}
	return s, err
}
