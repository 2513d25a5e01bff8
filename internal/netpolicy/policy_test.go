package netpolicy

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/internal/destination"
)

func TestParseRate(t *testing.T) {
	for text, want := range map[string]Rate{
		"5/minute":        {5, "minute"},
		"1/second":        {1, "second"},
		"1000000/day":     {1_000_000, "day"},
		"":                {},
		"5":               {},
		"5/":              {},
		"/minute":         {},
		"0/minute":        {},
		"-1/minute":       {},
		"1000001/second":  {},
		"5/week":          {},
		"5/min":           {},
		"5/minute ":       {},
		"5/minute drop":   {},
		"99999999999/day": {},
	} {
		got, err := ParseRate(text)
		if got != want || (err == nil) != (want != Rate{}) {
			t.Errorf("ParseRate(%q) = %v, %v; want %v", text, got, err, want)
		}
		if err == nil && got.String() != text {
			t.Errorf("%q prints as %q", text, got)
		}
	}
}

func TestValidate(t *testing.T) {
	good := Policy{Name: "web", UID: 62001, Port: 8080}
	for name, c := range map[string]struct {
		change func(*Policy)
		want   string
	}{
		"good":      {func(*Policy) {}, ""},
		"name":      {func(p *Policy) { p.Name = "a{}" }, "name is not"},
		"newline":   {func(p *Policy) { p.Name = "a\nb" }, "name is not"},
		"no name":   {func(p *Policy) { p.Name = "" }, "name is not"},
		"root":      {func(p *Policy) { p.UID = 0 }, "uid 0"},
		"no uid":    {func(p *Policy) { p.UID = ^uint32(0) }, "uid 4294967295"},
		"port":      {func(p *Policy) { p.Port = 0 }, "port 0"},
		"on block":  {func(p *Policy) { p.OnBlock = "deny" }, `on_block is "deny"`},
		"rate":      {func(p *Policy) { p.LogRate = Rate{5, "week"} }, "log rate 5/week"},
		"allow":     {func(p *Policy) { p.Allow = []destination.Destination{{}} }, "is not a network"},
		"zero rate": {func(p *Policy) { p.LogRate = Rate{} }, ""},
	} {
		p := good
		c.change(&p)
		err := p.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestGuardRefusesTwoOfAKind(t *testing.T) {
	a := Policy{Name: "a", UID: 62001, Port: 8081}
	for what, b := range map[string]Policy{
		"name a":    {Name: "a", UID: 62002, Port: 8082},
		"uid 62001": {Name: "b", UID: 62001, Port: 8082},
		"port 8081": {Name: "b", UID: 62002, Port: 8081},
	} {
		if _, err := Guard([]Policy{a, b}); err == nil || !strings.Contains(err.Error(), "both have "+what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestCompiledPolicyRoundTrip(t *testing.T) {
	want := Policy{
		Name: "web", User: "opencode-web", UID: 62001, Port: 8080, Locked: true, Isolated: true,
		Allow: allow("10.0.0.0/8", "2001:db8::/32"), OnBlock: Reject, LogRate: Rate{3, "hour"},
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Policy
	if err := json.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s reads as %+v, %v", data, got, err)
	}
	if err := json.Unmarshal([]byte(`{"log_rate":"5/week"}`), &got); err == nil {
		t.Error("a log rate per week was accepted")
	}
}

func TestMetadata(t *testing.T) {
	for list, want := range map[string]string{
		"":                              "",
		"0.0.0.0/0 ::/0":                "",
		"100.64.0.0/10":                 "",
		"128.0.0.0/1 fd00::/8":          "",
		"168.63.129.0/24 fd00:ec2::/64": "",
		"169.254.169.254/32":            "169.254.169.254",
		"169.254.170.0/24":              "169.254.170.2 169.254.170.23",
		"169.254.0.0/16":                "169.254.169.254 169.254.170.2 169.254.170.23",
		"169.254.0.0/15":                "",
		"169.254.169.253/32":            "",
		"fd00:ec2::254/128":             "fd00:ec2::254",
		"::ffff:169.254.169.254/128":    "169.254.169.254",
		"0.0.0.0/0 100.100.100.200/32":  "100.100.100.200",
		"169.254.169.254/31 10.0.0.0/8": "169.254.169.254",
		"169.254.169.254:80":            "169.254.169.254",
	} {
		var got []string
		for _, a := range (Policy{Allow: allow(strings.Fields(list)...)}).Metadata() {
			got = append(got, a.String())
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%q names %q, want %q", list, text, want)
		}
	}
}

func TestCutPrefix(t *testing.T) {
	for _, name := range []string{"a", "web", "a-would", "x-blocked", "a-would-block"} {
		for _, prefix := range []string{LogPrefix(name), ReportPrefix(name)} {
			instance, reported, packet, ok := CutPrefix(prefix + "IN= OUT=eth0: ")
			if !ok || instance != name || reported != (prefix == ReportPrefix(name)) || packet != "IN= OUT=eth0: " {
				t.Errorf("%q: %q, %v, %q, %v", prefix, instance, reported, packet, ok)
			}
		}
	}
	for _, line := range []string{"", ": ", "opencode-blocked: IN=", "opencode--blocked: IN=", "opencode-a-blocked:", "opencode-A\x1b-blocked: ",
		"usb 1-1: opencode-a-blocked: ", "opencode-a: "} {
		if _, _, _, ok := CutPrefix(line); ok {
			t.Errorf("%q is taken for a line about an instance", line)
		}
	}
}
