package netpolicy

import (
	"cmp"
	"context"
	"slices"
	"strings"

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

// inputFamilies are those whose packets reach servers on this host.
var inputFamilies = map[byte]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6"}

// DroppingInputs lists the input chains whose policy is drop, whoever made them, sorted.
func (k *Kernel) DroppingInputs(ctx context.Context) ([]InputChain, error) {
	var out []InputChain
	err := k.steady(ctx, func(s *socket) error {
		out = nil
		for family, name := range inputFamilies {
			chains, err := droppingInputs(s, family, name)
			if err != nil {
				return err
			}
			out = append(out, chains...)
		}
		return nil
	})
	if err != nil {
		return nil, explain("read the input chains", err)
	}
	slices.SortFunc(out, func(a, b InputChain) int { return cmp.Compare(a.String(), b.String()) })
	return out, nil
}

func droppingInputs(s *socket, family byte, familyName string) ([]InputChain, error) {
	chains, err := s.request(family, unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP)
	if err != nil {
		return nil, err
	}
	var out []InputChain
	for _, b := range chains {
		c := decodeChain(b)
		if c.Base == nil || c.Base.Hook != "input" || c.Base.Policy != "drop" {
			continue
		}
		comments, err := ruleComments(s, family, c.table)
		if err != nil {
			return nil, err
		}
		out = append(out, InputChain{Family: familyName, Table: c.table, Chain: c.Name, Comments: comments})
	}
	return out, nil
}

func ruleComments(s *socket, family byte, table string) ([]string, error) {
	rules, err := s.request(family, unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, attribute{unix.NFTA_RULE_TABLE, table})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, b := range rules {
		if comment := ruleComment(nested(b, unix.NFTA_RULE_USERDATA)); comment != "" {
			out = append(out, comment)
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
