package netpolicy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// GuardTable is the name of the table that covers all instances. Instance tables begin with "opencode-", so no
// instance can have it.
const GuardTable = "opencoded-guard"

// guardPriority is just before the egress tables (filter), which accept all of loopback.
const guardPriority = -1

// Guard is the table for all instances, isolated or not: (a) none connects to another instance's port at any local
// address, (b) a locked one not to its own, (c) none reaches cloud metadata that it does not name (see
// [Policy.Metadata]). Other local services stay reachable.
//
// Packets of other users leave it after one set lookup, and the cost for an instance does not grow with the number
// of instances. The table mentions "ct", so that connection tracking is active from when it is first loaded: a
// policy tightened later must recognise the answers to clients that are already streaming.
//
// Two policies with one name, UID or port are an error.
func Guard(policies []Policy) (Table, error) {
	policies = slices.Clone(policies)
	slices.SortFunc(policies, func(a, b Policy) int { return cmp.Compare(a.UID, b.UID) })
	if err := validateAll(policies); err != nil {
		return Table{}, err
	}
	t := Table{
		Name:   GuardTable,
		Sets:   append([]Set{marker}, guardSets(policies)...),
		Chains: append(guardChains(), blockChains(policies)...),
	}
	for _, p := range policies {
		t.Counters = append(t.Counters, counterPrefix+p.Name)
	}
	slices.Sort(t.Counters)
	return t, nil
}

// guardChains are the same for any number of instances.
func guardChains() []Chain {
	return []Chain{
		{
			Name:  "output",
			Base:  &Base{Type: "filter", Hook: "output", Priority: guardPriority, Policy: "accept"},
			Rules: []Rule{rule(Lookup{"meta skuid", "instances"}, goTo("guard"))},
		},
		{Name: "guard", Rules: []Rule{
			note("answers to clients that connected to the instance", Match{"ct direction", "reply"}, accept),
			note("an instance's port, at any address of this host",
				Lookup{"tcp dport", "ports"}, Match{"fib daddr type", "local"}, goTo("ports")),
			note("cloud metadata", Lookup{"ip daddr", "metadata4"}, goTo("metadata")),
			rule(Lookup{"ip6 daddr", "metadata6"}, goTo("metadata")),
		}},
		{Name: "ports", Rules: []Rule{
			note("an instance without configuration lock reaches its own port",
				Lookup{"meta skuid . tcp dport", "own"}, accept),
			rule(goTo("blocked")),
		}},
		{Name: "metadata", Rules: []Rule{
			rule(Lookup{"meta skuid . ip daddr", "named4"}, accept),
			rule(Lookup{"meta skuid . ip6 daddr", "named6"}, accept),
			note("on some clouds the resolver has the same address", Match{"udp dport", "53"}, accept),
			rule(Match{"tcp dport", "53"}, accept),
			rule(goTo("blocked")),
		}},
		{Name: "blocked", Rules: []Rule{
			rule(VMap{"meta skuid", "blocked_by"}),
			// Every instance is in the map. But a map that has to be made anew misses for an instant, and a miss must
			// not be a way through (measured, see replacement).
			note("not reached, but nothing may fall through", drop),
		}},
	}
}

// maxMetadata is the size of the sets of metadata addresses, see maxInstances.
const maxMetadata = 64

// guardSets are filled from policies that are sorted by UID.
func guardSets(policies []Policy) []Set {
	var instances, own, named4, named6, blockedBy []string
	var ports []uint16
	for _, p := range policies {
		uid := uidText(p.UID)
		instances = append(instances, uid)
		ports = append(ports, p.Port)
		blockedBy = append(blockedBy, uid+" : goto "+counterPrefix+p.Name)
		if !p.Locked {
			own = append(own, fmt.Sprintf("%s . %d", uid, p.Port))
		}
		for _, addr := range p.Metadata() {
			if addr.Is4() {
				named4 = append(named4, uid+" . "+addr.String())
			} else {
				named6 = append(named6, uid+" . "+addr.String())
			}
		}
	}
	slices.Sort(ports)
	metadata4, metadata6 := metadataTexts()
	return []Set{
		{Name: "instances", Type: "uid", Size: maxInstances, Elements: instances},
		{Name: "ports", Type: "inet_service", Elements: portTexts(ports)},
		{Name: "own", Type: "uid . inet_service", Elements: own},
		{Name: "metadata4", Type: "ipv4_addr", Size: maxMetadata, Elements: metadata4},
		{Name: "metadata6", Type: "ipv6_addr", Size: maxMetadata, Elements: metadata6},
		{Name: "named4", Type: "uid . ipv4_addr", Elements: named4},
		{Name: "named6", Type: "uid . ipv6_addr", Elements: named6},
		{Name: "blocked_by", Type: "uid", Map: true, Elements: blockedBy},
	}
}

// blockChains are one chain per instance, because a log prefix is a constant of its rule.
func blockChains(policies []Policy) []Chain {
	var chains []Chain
	for _, p := range policies {
		p.Report = false // other instances and the cloud's credentials are not the instance's to try out
		chains = append(chains, Chain{Name: p.counter(), Rules: block(p)})
	}
	return chains
}

func validateAll(policies []Policy) error {
	type claim struct {
		what, name string
		number     uint32
	}
	var errs []error
	if len(policies) > maxInstances {
		errs = append(errs, fmt.Errorf("cannot guard %d instances: %d at most on one host", len(policies), maxInstances))
	}
	seen := make(map[claim]string, 3*len(policies))
	for _, p := range policies {
		if err := p.Validate(); err != nil {
			errs = append(errs, err)
		}
		for _, c := range []claim{{"name", p.Name, 0}, {"uid", "", p.UID}, {"port", "", uint32(p.Port)}} {
			if other, taken := seen[c]; taken {
				errs = append(errs, fmt.Errorf("cannot guard instances %q and %q: both have %s %s", other, p.Name, c.what, cmp.Or(c.name, uidText(c.number))))
			}
			seen[c] = p.Name
		}
	}
	return errors.Join(errs...)
}

func uidText(uid uint32) string { return strconv.FormatUint(uint64(uid), 10) }

func portTexts(ports []uint16) []string {
	out := make([]string, len(ports))
	for i, port := range ports {
		out[i] = strconv.Itoa(int(port))
	}
	return out
}

func metadataTexts() (v4, v6 []string) {
	sorted := slices.SortedFunc(slices.Values(metadata), netip.Addr.Compare)
	for _, addr := range sorted {
		if addr.Is4() {
			v4 = append(v4, addr.String())
		} else {
			v6 = append(v6, addr.String())
		}
	}
	return v4, v6
}
