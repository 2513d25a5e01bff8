package netpolicy

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/opencoded/opencoded/internal/destination"
)

// Policy is one instance as the network policy sees it.
type Policy struct {
	// Name is the instance name; it becomes part of table, chain and counter names and of the log prefix.
	Name string `json:"name"`
	// User is the account name. It is informational: rules use UID. Whoever loads a compiled copy checks that the
	// account still has this UID.
	User string `json:"user"`
	// UID is the numeric user id, resolved after the account exists; never 0, which is root.
	UID uint32 `json:"uid"`
	// Port is the instance's opencode TCP port, 1–65535. The guard keeps every other instance away from it.
	Port uint16 `json:"port"`
	// Locked is the configuration lock: the instance may not connect to its own port either, because it inherits
	// the server password and could answer its own permission requests.
	Locked bool `json:"locked"`
	// Isolated restricts egress to Allow, loopback and answers. When false only the guard applies.
	Isolated bool `json:"isolated"`
	// Filtered says that systemd's IPAddressDeny= stands beside these rules, which decides how TCP is rejected.
	Filtered bool `json:"filtered,omitzero"`
	// Report lets everything pass that Allow does not cover, and logs and counts it.
	Report bool `json:"report,omitzero"`
	// NoDNS closes port 53 of this host, unless Allow names it: a local resolver forwards whatever it is asked.
	NoDNS bool `json:"no_dns,omitzero"`
	// Allow are the destinations of an isolated instance, in any order; duplicates and overlaps are normalised. The
	// guard also reads it, see [Policy.Metadata].
	Allow []destination.Destination `json:"allow,omitempty"`
	// OnBlock is what happens to a blocked packet; the zero value is Drop.
	OnBlock OnBlock `json:"on_block,omitempty"`
	// LogRate limits the log lines about blocked packets; the zero value is DefaultLogRate. Counters are exact
	// whatever the rate.
	LogRate Rate `json:"log_rate,omitzero"`
}

// OnBlock is what the sender of a blocked packet gets to see.
type OnBlock string

const (
	// Drop discards without a word: TCP connects hang until their timeout. UDP sends fail with EPERM. A flow that was
	// open before the policy is reset (ECONNRESET), unless it is a [Policy.Filtered] instance's: that hangs.
	Drop OnBlock = "drop"
	// Reject fails at once: TCP with a reset (ECONNREFUSED, ECONNRESET on a flow that was open), everything else,
	// and TCP of a [Policy.Filtered] instance, with ICMP "administratively prohibited" (EHOSTUNREACH, EACCES over
	// v6; a v6 TCP connect after about a second).
	Reject OnBlock = "reject"
)

// ParseOnBlock reads "drop" or "reject".
func ParseOnBlock(s string) (OnBlock, error) {
	switch b := OnBlock(s); b {
	case Drop, Reject:
		return b, nil
	}
	return "", fmt.Errorf("cannot use %q for blocked packets: it is neither \"drop\" nor \"reject\"", s)
}

// Rate is a number of packets per unit of time (nft "limit rate").
type Rate struct {
	// Packets per unit, 1–MaxLogRate.
	Packets uint32
	// Unit is "second", "minute", "hour" or "day".
	Unit string
}

const (
	// MaxLogRate bounds Rate.Packets. The kernel divides the unit into as many steps of whole nanoseconds
	// (net/netfilter/nft_limit.c); this stays far from where that loses precision.
	MaxLogRate = 1_000_000
	// logBurst is how many packets are logged before the rate applies; it is also nft's default.
	logBurst = 5
)

// DefaultLogRate applies where a policy names none.
var DefaultLogRate = Rate{Packets: 5, Unit: "minute"}

// unitSeconds are the units of a Rate; the kernel has no others but "week".
var unitSeconds = map[string]uint64{"second": 1, "minute": 60, "hour": 3600, "day": 86400}

// ParseRate reads "N/second", "N/minute", "N/hour" or "N/day".
func ParseRate(s string) (Rate, error) {
	count, unit, ok := strings.Cut(s, "/")
	n, err := strconv.ParseUint(count, 10, 32)
	rate := Rate{Packets: uint32(n), Unit: unit}
	if !ok || err != nil || rate.validate() != nil {
		return Rate{}, fmt.Errorf("cannot use %q as a log rate: it is not N/UNIT with N from 1 to %d "+
			"and UNIT second, minute, hour or day (for example 5/minute)", s, MaxLogRate)
	}
	return rate, nil
}

func (r Rate) validate() error {
	if _, ok := unitSeconds[r.Unit]; !ok || r.Packets == 0 || r.Packets > MaxLogRate {
		return fmt.Errorf("log rate %d/%s is out of range", r.Packets, r.Unit)
	}
	return nil
}

// String prints the rate as nft and the inventory spell it; the zero value prints as the empty string.
func (r Rate) String() string {
	if r == (Rate{}) {
		return ""
	}
	return fmt.Sprintf("%d/%s", r.Packets, r.Unit)
}

// MarshalText implements [encoding.TextMarshaler].
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; the empty text is the zero value.
func (r *Rate) UnmarshalText(text []byte) (err error) {
	*r = Rate{}
	if len(text) > 0 {
		*r, err = ParseRate(string(text))
	}
	return err
}

// nameRE keeps a name to what stands unquoted in nft syntax and within the kernel's 127 characters of a log prefix.
// It is wider than the inventory's own rule, which package instance enforces.
var nameRE = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,60}[a-z0-9])?$`)

// Validate reports what makes the policy unusable for rules. Policies come from the inventory, where package
// instance has checked more and says where, and from compiled copies on disk, where nobody has.
func (p Policy) Validate() error {
	var errs []error
	fail := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("cannot use network policy %q: "+format, append([]any{p.Name}, args...)...))
	}
	if !nameRE.MatchString(p.Name) {
		fail("the name is not lower-case letters, digits and dashes")
	}
	if p.UID == 0 || p.UID == ^uint32(0) {
		fail("uid %d is not an instance's (0 is root, 4294967295 is nobody at all)", p.UID)
	}
	if p.Port == 0 {
		fail("port 0 is not a port")
	}
	if _, err := ParseOnBlock(string(p.OnBlock)); p.OnBlock != "" && err != nil {
		fail("on_block is %q (drop or reject)", p.OnBlock)
	}
	if p.LogRate != (Rate{}) && p.LogRate.validate() != nil {
		fail("log rate %s is out of range (1–%d per second, minute, hour or day)", p.LogRate, MaxLogRate)
	}
	for _, d := range p.Allow {
		if !d.Valid() {
			fail("an allowed destination is not a network, or has a port without a protocol")
		}
	}
	return errors.Join(errs...)
}

// logRate is the rate that applies.
func (p Policy) logRate() Rate {
	if p.LogRate == (Rate{}) {
		return DefaultLogRate
	}
	return p.LogRate
}
