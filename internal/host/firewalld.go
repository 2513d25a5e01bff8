package host

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/opencoded/opencoded/internal/plan"
)

// firewalld is spoken to over D-Bus (firewalld.dbus(5)). What is in force and what
// is saved are two sets of rules: a reload puts the second in place of the first.
// Both are changed here, and nothing is reloaded: that would take from the
// administrator what they have not saved.
type firewalld struct {
	conn *dbus.Conn
}

const (
	firewalldName   = "org.fedoraproject.FirewallD1"
	firewalldPath   = "/org/fedoraproject/FirewallD1"
	firewalldConfig = firewalldName + ".config"
	// firewalldTimeout bounds a conversation; firewalld answers within milliseconds.
	firewalldTimeout = 20 * time.Second
)

// withFirewalld calls do with a connection, if firewalld runs; it is not started.
func withFirewalld(ctx context.Context, do func(context.Context, firewalld) error) error {
	ctx, cancel := context.WithTimeout(ctx, firewalldTimeout)
	defer cancel()
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil // without the bus there is no firewalld either
	}
	defer conn.Close()
	var runs bool
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, firewalldName).Store(&runs); err != nil {
		return fmt.Errorf("cannot ask D-Bus for firewalld: %w", err)
	}
	if !runs {
		return nil
	}
	return do(ctx, firewalld{conn})
}

// call asks for a method of an object and stores its answer.
func (f firewalld) call(ctx context.Context, path dbus.ObjectPath, method string, into any, args ...any) error {
	c := f.conn.Object(firewalldName, path).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
	if c.Err != nil || into == nil {
		return c.Err
	}
	return c.Store(into)
}

// readFirewalld returns nil where firewalld does not run.
func readFirewalld(ctx context.Context) (*plan.Firewall, error) {
	var out *plan.Firewall
	err := withFirewalld(ctx, func(ctx context.Context, f firewalld) (err error) {
		out, err = f.read(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot ask firewalld for its rules: %w (`systemctl status firewalld` says more)", err)
	}
	return out, nil
}

func (f firewalld) read(ctx context.Context) (*plan.Firewall, error) {
	out := &plan.Firewall{Manager: plan.Firewalld, Active: true}
	if err := f.call(ctx, firewalldPath, firewalldName+".getDefaultZone", &out.Zone); err != nil {
		return nil, err
	}
	var loaded, saved []string
	if err := f.call(ctx, firewalldPath, firewalldName+".zone.getZones", &loaded); err != nil {
		return nil, err
	}
	if err := f.call(ctx, firewalldPath+"/config", firewalldConfig+".getZoneNames", &saved); err != nil {
		return nil, err
	}
	for _, zone := range loaded {
		var rules []string
		if err := f.call(ctx, firewalldPath, firewalldName+".zone.getRichRules", &rules, zone); err != nil {
			return nil, err
		}
		addRules(out, zone, rules, func(o *plan.Opening) { o.Loaded = true })
	}
	for _, zone := range saved {
		path, err := f.savedZone(ctx, zone)
		if err != nil {
			return nil, err
		}
		var rules []string
		if err := f.call(ctx, path, firewalldConfig+".zone.getRichRules", &rules); err != nil {
			return nil, err
		}
		addRules(out, zone, rules, func(o *plan.Opening) { o.Saved = true })
	}
	return out, nil
}

func addRules(f *plan.Firewall, zone string, rules []string, mark func(*plan.Opening)) {
	for _, rule := range rules {
		name := plan.RichRuleInstance(rule)
		if name == "" {
			continue
		}
		n := slices.IndexFunc(f.Openings, func(o plan.Opening) bool { return o.Zone == zone && o.Rule == rule })
		if n < 0 {
			n = len(f.Openings)
			f.Openings = append(f.Openings, plan.Opening{Manager: plan.Firewalld, Instance: name, Zone: zone, Rule: rule})
		}
		mark(&f.Openings[n])
	}
}

func (f firewalld) savedZone(ctx context.Context, zone string) (dbus.ObjectPath, error) {
	var path dbus.ObjectPath
	return path, f.call(ctx, firewalldPath+"/config", firewalldConfig+".getZoneByName", &path, zone)
}

// zoneOf is the zone of an interface; "" means the default zone.
func zoneOf(ctx context.Context, name string) (string, error) {
	var zone string
	err := withFirewalld(ctx, func(ctx context.Context, f firewalld) error {
		return f.call(ctx, firewalldPath, firewalldName+".zone.getZoneOfInterface", &zone, name)
	})
	if err != nil {
		return "", fmt.Errorf("cannot ask firewalld for the zone of %s: %w", name, err)
	}
	return zone, nil
}

// setFirewalld saves the rule and puts it in force, or takes both back.
func setFirewalld(ctx context.Context, open bool, o plan.Opening) error {
	return withFirewalld(ctx, func(ctx context.Context, f firewalld) error {
		path, err := f.savedZone(ctx, o.Zone)
		if err == nil && open {
			err = f.call(ctx, path, firewalldConfig+".zone.addRichRule", nil, o.Rule)
		} else if err == nil {
			err = f.call(ctx, path, firewalldConfig+".zone.removeRichRule", nil, o.Rule)
		}
		if err != nil && !done(err, open) {
			return err
		}
		if open {
			err = f.call(ctx, firewalldPath, firewalldName+".zone.addRichRule", nil, o.Zone, o.Rule, int32(0))
		} else {
			err = f.call(ctx, firewalldPath, firewalldName+".zone.removeRichRule", nil, o.Zone, o.Rule)
		}
		if err != nil && !done(err, open) {
			return err
		}
		return nil
	})
}

// done reports whether firewalld's error says that it is so already. Its errors
// begin with a code; the zone may have gone with the rule in it.
func done(err error, open bool) bool {
	codes := []string{"NOT_ENABLED", "INVALID_ZONE"}
	if open {
		codes = []string{"ALREADY_ENABLED"}
	}
	return slices.ContainsFunc(codes, func(code string) bool { return strings.HasPrefix(err.Error(), code) })
}
