package instance

import (
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/opencoded/opencoded/internal/destination"
	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/lazy"
)

func text(v *document.Value) (string, error) {
	s, ok := v.Data.(string)
	if !ok {
		return "", refuse("write it in quotes", "expected a string, not %s", article(v.Kind()))
	}
	if !utf8.ValidString(s) {
		return "", refuse("", "not valid UTF-8")
	}
	return s, nil
}

// line is text that can stand in a unit file.
func line(v *document.Value) (string, error) {
	s, err := text(v)
	if err != nil {
		return "", err
	}
	switch i := strings.IndexFunc(s, Unfit); {
	case i < 0:
		return s, nil
	case s[i] < 0x80:
		return "", refuse("write it on one line", "contains a control character (%q)", s[i:i+1])
	default:
		r, _ := utf8.DecodeRuneInString(s[i:])
		return "", refuse("leave it out", "contains the character %U, which a unit file cannot hold", r)
	}
}

// Unfit reports whether a character cannot stand in a unit file. A newline would
// begin a directive of its own. Of the rest systemd drops the whole line when it
// is not "UTF-8 clean": noncharacters are not (utf8_is_valid in its utf8.c), nor
// is what Go decodes to U+FFFD.
func Unfit(r rune) bool {
	nonCharacter := r&0xFFFE == 0xFFFE || 0xFDD0 <= r && r <= 0xFDEF
	return unicode.IsControl(r) || nonCharacter || r == utf8.RuneError
}

func boolean(v *document.Value) (bool, error) {
	b, ok := v.Data.(bool)
	if !ok {
		return false, refuse("write true or false without quotes", "expected a boolean, not %s", article(v.Kind()))
	}
	return b, nil
}

// oneOf accepts one of some words.
func oneOf(words ...string) convert[string] {
	return func(v *document.Value) (string, error) {
		s, err := text(v)
		if err != nil {
			return "", err
		}
		if !slices.Contains(words, s) {
			return "", refuse("use "+strings.Join(words, ", "), "%q is not known", s)
		}
		return s, nil
	}
}

// matching accepts text of a certain shape.
func matching(rule *lazy.Regexp, noun, hint string) convert[string] {
	return func(v *document.Value) (string, error) {
		s, err := line(v)
		if err != nil {
			return "", err
		}
		if !rule.MatchString(s) {
			return "", refuse(hint, "%q is not %s", s, noun)
		}
		return s, nil
	}
}

// scalar turns an integer into its text and leaves text alone, for values of
// which systemd knows both forms.
func scalar(c convert[string]) convert[string] {
	return func(v *document.Value) (string, error) {
		if n, ok := v.Data.(int64); ok {
			v = &document.Value{Pos: v.Pos, Data: strconv.FormatInt(n, 10)}
		}
		return c(v)
	}
}

// account names as useradd(8) and systemd-sysusers accept them everywhere.
var accountRule = lazy.MustCompile(`^[a-z_][a-z0-9_-]{0,30}$`)

func account(v *document.Value) (string, error) {
	s, err := matching(accountRule, "a valid account name",
		"use 1 to 31 lower-case letters, digits, _ and -, beginning with a letter or _")(v)
	if err == nil && s == "root" {
		return "", refuse("name another, or leave it out to get one of its own", "an instance cannot run as root")
	}
	return s, err
}

// path accepts an absolute path and returns it without redundant slashes.
func path(v *document.Value) (string, error) {
	s, err := line(v)
	switch {
	case err != nil:
		return "", err
	case s == "":
		return "", refuse("write an absolute path", "is empty")
	case !strings.HasPrefix(s, "/"):
		return "", refuse("write the whole path, beginning with /", "%q is not an absolute path", s)
	case strings.TrimSpace(s) != s || strings.HasSuffix(s, `\`):
		// systemd strips white space there, and a backslash continues the line.
		return "", refuse("rename it", "%q begins or ends with a character that a unit file cannot hold there", s)
	case slices.Contains(strings.Split(s, "/"), ".."):
		return "", refuse("write the path without ..", "%q climbs with ..", s)
	case len(s) > maxPath || slices.ContainsFunc(strings.Split(s, "/"), func(name string) bool { return len(name) > maxName }):
		return "", refuse("choose a shorter one", "no path can be that long (%d bytes)", len(s))
	}
	return filepath.Clean(s), nil
}

// Linux's PATH_MAX leaves room for 4095 bytes, some of which go to what is put
// below or before a path; NAME_MAX is for each part. systemd drops what is longer.
const maxPath, maxName = 4000, 255

// homeDir is a path that can be the home directory of an account.
func homeDir(v *document.Value) (string, error) {
	s, err := path(v)
	if err == nil && strings.Contains(s, ":") {
		return "", refuse("choose one without", "%q contains a colon, which separates the fields of /etc/passwd", s)
	}
	return s, err
}

// optionalPath accepts a path with a leading "-" for one that may be missing.
func optionalPath(v *document.Value) (Path, error) {
	s, err := line(v)
	if err != nil {
		return Path{}, err
	}
	rest, optional := strings.CutPrefix(s, "-")
	p, err := path(&document.Value{Pos: v.Pos, Data: rest})
	return Path{Path: p, Optional: optional}, err
}

func address(v *document.Value) (netip.Addr, error) {
	s, err := text(v)
	if err != nil {
		return netip.Addr{}, err
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, refuse(`use an address such as "127.0.0.1", "::1" or "0.0.0.0"`, "%q is not an IP address", s)
	}
	return a.Unmap(), nil
}

// addressPort accepts "127.0.0.1:9100", "[::1]:9100".
func addressPort(v *document.Value) (netip.AddrPort, error) {
	s, err := text(v)
	if err != nil {
		return netip.AddrPort{}, err
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Addr().Zone() != "" || a.Port() == 0 {
		return netip.AddrPort{}, refuse(`use an address and a port, such as "127.0.0.1:9100" or "[::1]:9100"`, "%q is not an address with a port", s)
	}
	return a, nil
}

// operator accepts the name of a user, or of a group with a leading @.
func operator(v *document.Value) (string, error) {
	s, err := text(v)
	if err == nil && !operatorRule.MatchString(s) {
		return "", refuse(`use "alice" for a user, "@devs" for a group`, "%q is not the name of a user or a group", s)
	}
	return s, err
}

// operatorRule is wider than accountRule: people's accounts exist already, and may come from a directory server.
var operatorRule = lazy.MustCompile(`^@?[A-Za-z0-9_][A-Za-z0-9_.\\@-]{0,255}\$?$`)

// integer accepts a number within bounds.
func integer(low, high int) convert[int] {
	return func(v *document.Value) (int, error) {
		n, ok := v.Data.(int64)
		if !ok {
			return 0, refuse("write a number without quotes", "expected an integer, not %s", article(v.Kind()))
		}
		if n < int64(low) || n > int64(high) {
			return 0, refuse(fmt.Sprintf("use %d to %d", low, high), "%d is out of range", n)
		}
		return int(n), nil
	}
}

func port(v *document.Value) (uint16, error) {
	n, ok := v.Data.(int64)
	if !ok {
		return 0, refuse("write a number without quotes", "expected an integer, not %s", article(v.Kind()))
	}
	if n < 1 || n > 65535 {
		return 0, refuse("use 1 to 65535", "%d is not a port", n)
	}
	return uint16(n), nil
}

var rateRule = lazy.MustCompile(`^[1-9][0-9]{0,5}/(second|minute|hour|day)$`)

var (
	sizeRule  = lazy.MustCompile(`^([0-9]+(\.[0-9]+)?[KMGTPE]?|[0-9]+(\.[0-9]+)?%|infinity)$`)
	quotaRule = lazy.MustCompile(`^[1-9][0-9]*(\.[0-9]+)?%$`)
	tasksRule = lazy.MustCompile(`^([1-9][0-9]*%?|infinity)$`)
	filesRule = lazy.MustCompile(`^[1-9][0-9]*(:[1-9][0-9]*)?$`)
)

var spaceRule = lazy.MustCompile(`^([0-9]+(?:\.[0-9]+)?)([KMGTP]?)$`)

// With less than the first opencode does not start: a fresh state directory takes some mebibytes.
const leastSpace, mostSpace = 16 << 20, 1 << 60

// diskSpace is a number of bytes in systemd's spelling of sizes; 0 stands for "infinity".
func diskSpace(v *document.Value) (uint64, error) {
	s, err := line(v)
	if err != nil || s == "infinity" {
		return 0, err
	}
	parts := spaceRule.FindStringSubmatch(s)
	if parts == nil {
		return 0, refuse(`use a number with M, G or T, such as "10G", or "infinity"`, "%q is not an amount of disk space", s)
	}
	n, _ := strconv.ParseFloat(parts[1], 64) // digits alone
	n *= math.Pow(1024, float64(strings.Index(" KMGTP", parts[2])))
	if n < leastSpace || n > mostSpace {
		return 0, refuse("use 16M to 1024P", "%q is out of range", s)
	}
	return uint64(n) &^ 4095, nil
}

// duration accepts Go's spelling, which is also systemd's for these units.
func duration(low, high time.Duration) convert[time.Duration] {
	return func(v *document.Value) (time.Duration, error) {
		s, err := text(v)
		if err != nil {
			return 0, refuse(`write it with a unit, such as "60s" or "2m"`, "expected a duration, not %s", article(v.Kind()))
		}
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, refuse(`write it with a unit, such as "60s" or "2m"`, "%q is not a duration", s)
		}
		if d < low || d > high {
			return 0, refuse("use "+low.String()+" to "+high.String(), "%s is out of range", s)
		}
		return d, nil
	}
}

// script accepts a shell script of several lines.
func script(v *document.Value) (string, error) {
	s, err := text(v)
	if err != nil {
		return "", err
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }); i >= 0 {
		return "", refuse("", "contains a control character (%q) other than newline and tab", s[i:i+1])
	}
	return s, nil
}

var variableRule = lazy.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// ownedVariables are set by opencoded or would undo what it sets.
var ownedVariables = map[string]string{
	"HOME":                            "it is the state directory: set state_dir",
	"USER":                            "it is the account: set user",
	"LOGNAME":                         "it is the account: set user",
	"PATH":                            "set path, which is put in front",
	"XDG_CONFIG_HOME":                 "the configuration stays at its place",
	"OPENCODE_CONFIG":                 "use config_file",
	"OPENCODE_CONFIG_CONTENT":         "use config",
	"OPENCODE_CONFIG_DIR":             "use config",
	"OPENCODE_PERMISSION":             "use config.permission",
	"OPENCODE_DISABLE_PROJECT_CONFIG": "use config_lock",
	"OPENCODE_DISABLE_AUTOUPDATE":     "servers never update themselves",
	"OPENCODE_SERVER_USERNAME":        "the user name is always opencode",
	"OPENCODED_PATH":                  "set path",
	"OPENCODED_GENERATION":            "it is how a running server is recognised",
}

// Owned says whether opencoded owns an environment variable, and what to do
// instead of setting it.
func Owned(name string) (remedy string, owned bool) {
	remedy, owned = ownedVariables[name]
	return remedy, owned
}

// variables reads the environment table.
func variables(r *reader, i *Instance, v *document.Value) {
	t := v.Table()
	if t == nil {
		r.fail(v.Pos, `write environment = { NAME = "value" }`, "expected a table, not %s", article(v.Kind()))
		return
	}
	i.Environment = nil
	for e := range t.All() {
		at := *r
		at.key = r.key + "." + document.Join(e.Key)
		if !variableRule.MatchString(e.Key) {
			at.fail(e.KeyPos, "use letters, digits and _, not beginning with a digit", "%q is not a name for a variable", e.Key)
			continue
		}
		if remedy, owned := Owned(e.Key); owned {
			at.fail(e.KeyPos, remedy, "opencoded owns this variable")
			continue
		}
		if e.Key == "OPENCODE_SERVER_PASSWORD" {
			at.fail(e.KeyPos, "put it into an environment_file, or leave it out to get a generated one", "a password in the inventory would be readable in the unit file")
			continue
		}
		if s, ok := take(&at, e.Value, line); ok {
			i.Environment = append(i.Environment, Variable{Name: e.Key, Value: s})
		}
	}
}

// destinations reads the allowlist. What was written and what is meant may
// differ, and entries may cover others: the operator should see it.
func destinations(r *reader, i *Instance, v *document.Value) {
	list, ok := v.List()
	if !ok {
		r.fail(v.Pos, "write it in square brackets", "expected a list, not %s", article(v.Kind()))
		return
	}
	i.Network.Allow = nil
	for _, e := range list {
		s, ok := take(r, e, text)
		if !ok {
			continue
		}
		d, remark, err := destination.Parse(s)
		if err != nil {
			why := err.(*destination.Error)
			r.fail(e.Pos, why.Hint, "%s", why.Problem)
			continue
		}
		if remark != "" {
			r.warn(e.Pos, fmt.Sprintf("write %q", d), "%q %s; %s is meant", s, remark, d)
		}
		r.keys.set(element(r.key, len(i.Network.Allow)), e.Pos)
		i.Network.Allow = append(i.Network.Allow, d)
	}
	redundant := destination.Redundant(i.Network.Allow)
	for n := range i.Network.Allow {
		by, ok := redundant[n]
		switch d, pos := i.Network.Allow[n], r.keys.where().at[element(r.key, n)]; {
		case ok && i.Network.Allow[by] == d:
			r.warn(pos, "remove one of the two", "%s is listed twice", d)
		case ok:
			r.warn(pos, "remove one of the two", "%s is part of %s", d, i.Network.Allow[by])
		}
	}
}

// uidRange reads [first, last]. Below 1 is root; 65534 is nobody, 65535 the
// invalid 16-bit id; 60000 and up to there belongs to distributions and to
// systemd's dynamic users (see systemd's UIDS-GIDS document).
func uidRange(r *reader, h *Host, v *document.Value) {
	list, ok := v.List()
	if !ok || len(list) != 2 {
		r.fail(v.Pos, "write uid_range = [70000, 79999]", "expected two numbers")
		return
	}
	first, ok1 := list[0].Data.(int64)
	last, ok2 := list[1].Data.(int64)
	switch {
	case !ok1 || !ok2:
		r.fail(v.Pos, "write uid_range = [70000, 79999]", "expected two numbers")
	case first < 100 || last > 1<<31-2 || first > last:
		r.fail(v.Pos, "use a first and a last id between 100 and 2147483646", "[%d, %d] is not a range of ids", first, last)
	case first <= 65535 && last >= 60000:
		r.fail(v.Pos, "use a range above 65535, such as [70000, 79999]",
			"[%d, %d] overlaps 60000 to 65535, which distributions and systemd's dynamic users have", first, last)
	default:
		h.UIDRange = &UIDRange{First: uint32(first), Last: uint32(last)}
	}
}
