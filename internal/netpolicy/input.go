package netpolicy

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// InputChain is somebody's base chain on hook input that drops what none of its rules accepts. iptables-nft makes such
// chains too; what iptables-legacy does is not in nf_tables and so not seen.
type InputChain struct {
	Family   string   // ip, ip6, inet
	Table    string   //
	Chain    string   //
	Comments []string // of the rules of its table, sorted
}

func (c InputChain) String() string { return c.Family + " " + c.Table + " " + c.Chain }

// families whose packets reach servers on this host.
var inputFamilies = map[nftables.TableFamily]string{
	nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6",
}

// DroppingInputs lists the input chains whose policy is drop, whoever made them, sorted.
func (k *Kernel) DroppingInputs(ctx context.Context) ([]InputChain, error) {
	var out []InputChain
	err := k.steady(ctx, func() (err error) {
		out, err = k.droppingInputs(ctx)
		return err
	})
	if err != nil {
		return nil, explain("read the input chains", err)
	}
	slices.SortFunc(out, func(a, b InputChain) int { return cmp.Compare(a.String(), b.String()) })
	return out, nil
}

func (k *Kernel) droppingInputs(ctx context.Context) ([]InputChain, error) {
	chains, err := k.conn(ctx).ListChains()
	if err != nil {
		return nil, err
	}
	var out []InputChain
	for _, c := range chains {
		family, ok := inputFamilies[c.Table.Family]
		if !ok || c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookInput || c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
			continue
		}
		comments, err := k.ruleComments(ctx, c.Table)
		if err != nil {
			return nil, err
		}
		out = append(out, InputChain{Family: family, Table: c.Table.Name, Chain: c.Name, Comments: comments})
	}
	return out, nil
}

func (k *Kernel) ruleComments(ctx context.Context, table *nftables.Table) ([]string, error) {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(table.Name + "\x00")}})
	if err != nil {
		return nil, err
	}
	messages, err := k.requestFamily(ctx, byte(table.Family), unix.NFT_MSG_GETRULE, netlink.Dump, attrs)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range messages {
		ad, err := attributes(m)
		if err != nil {
			return nil, err
		}
		for ad.Next() {
			if ad.Type() == unix.NFTA_RULE_USERDATA {
				if text := ruleComment(ad.Bytes()); text != "" {
					out = append(out, text)
				}
			}
		}
		if err := ad.Err(); err != nil {
			return nil, err
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// ruleComment reads the comment (type 0) of a rule's user data, a list of type, length and value as libnftnl writes
// it. google/nftables 0.3 would panic where another program has written something else.
func ruleComment(data []byte) string {
	for len(data) >= 2 && len(data) >= 2+int(data[1]) {
		if value := data[2 : 2+int(data[1])]; data[0] == 0 {
			return strings.TrimRight(string(value), "\x00")
		}
		data = data[2+int(data[1]):]
	}
	return ""
}
