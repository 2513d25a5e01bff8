package host

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/opencoded/opencoded/internal/document"
	"github.com/opencoded/opencoded/internal/instance"
	"github.com/opencoded/opencoded/internal/plan"
)

// readFirewalls asks the programs that manage the packet filter what they hold,
// and the kernel what else drops. Without an answer no port can be opened; where
// none is wanted that is only worth a warning.
func (h *Host) readFirewalls(ctx context.Context, inv *instance.Inventory, f *plan.Facts, problems *document.Diagnostics) {
	var wanting []*instance.Instance
	for _, i := range inv.Enabled() {
		if i.OpenFirewall {
			wanting = append(wanting, i)
		}
	}
	failed := func(err error) {
		severity, pos := document.Warning, document.Pos{File: inv.Name}
		if len(wanting) > 0 {
			severity, pos = document.Error, wanting[0].At("open_firewall")
		}
		problems.Add(severity, pos, "", "%v", err)
	}
	var err error
	if f.Firewalls, err = firewalls(ctx); err != nil {
		failed(err)
	}
	if len(wanting) == 0 {
		return
	}
	if err := findZones(ctx, f.Firewalls, wanting); err != nil {
		failed(err)
	}
	if f.DroppingInputs, err = h.kernel.DroppingInputs(ctx); err != nil {
		failed(err)
	}
}

// firewalls reads those that are installed.
func firewalls(ctx context.Context) ([]plan.Firewall, error) {
	var out []plan.Firewall
	for _, read := range []func(context.Context) (*plan.Firewall, error){readFirewalld, readUFW} {
		f, err := read(ctx)
		if err != nil {
			return nil, err
		}
		if f != nil {
			out = append(out, *f)
		}
	}
	return out, nil
}

// held is what the firewalls hold of opencoded's, by instance.
func held(list []plan.Firewall) map[string][]plan.Opening {
	out := map[string][]plan.Opening{}
	for _, f := range list {
		for _, o := range f.Openings {
			out[o.Instance] = append(out[o.Instance], o)
		}
	}
	return out
}

// findZones finds the zone of the interface that has an address.
func findZones(ctx context.Context, list []plan.Firewall, wanting []*instance.Instance) error {
	for n := range list {
		if list[n].Manager != plan.Firewalld {
			continue
		}
		list[n].Zones = map[netip.Addr]string{}
		for _, i := range wanting {
			a := i.Listen.Address
			name := interfaceOf(a)
			if name == "" {
				continue
			}
			zone, err := zoneOf(ctx, name)
			if err != nil {
				return err
			}
			list[n].Zones[a] = zone
		}
	}
	return nil
}

// interfaceOf is the interface that has an address; "" for an unspecified one, and
// for one that the host does not have.
func interfaceOf(a netip.Addr) string {
	interfaces, err := net.Interfaces()
	if err != nil || a.IsUnspecified() {
		return ""
	}
	for _, i := range interfaces {
		addresses, _ := i.Addrs() // none: it went away
		for _, has := range addresses {
			if p, err := netip.ParsePrefix(has.String()); err == nil && p.Addr().Unmap() == a {
				return i.Name
			}
		}
	}
	return ""
}

// setOpening makes or removes one rule. What is so already is no error.
func setOpening(ctx context.Context, verb plan.Verb, o plan.Opening) error {
	set := setUFW
	if o.Manager == plan.Firewalld {
		set = setFirewalld
	}
	if err := set(ctx, verb != plan.Remove, o); err != nil {
		return fmt.Errorf("cannot %s the rule %q in %s: %w", verb, o.Rule, o.Place(), err)
	}
	return nil
}

// ports makes and removes rules in the firewalls, before anything starts and
// after everything has stopped.
func (r *run) ports(ctx context.Context) {
	for _, l := range r.lanes() {
		for _, step := range l.Steps {
			if step.Opening == nil || r.blocked(l.Instance) {
				continue
			}
			if err := setOpening(ctx, step.Verb, *step.Opening); err != nil {
				r.fail(l.Instance, err)
			}
		}
	}
}
