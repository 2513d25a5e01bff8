package scenario

import (
	"os"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

// stateMaxRefused: a limit that the file system would not keep to is an error before anything is touched, with what
// would help. How limits are kept to is shown where a kernel with project quotas is: by internal/quota under user-mode
// Linux, and in a virtual machine.
func stateMaxRefused(t *testing.T) {
	operator.Write(t, operator.Inventory, `
version = 1
[instances.alpha]
directory = "/srv/alpha"
resources.state_max = "10G"
`, 0o600)
	for _, args := range [][]string{{"validate", "--host"}, {"plan"}, {"apply"}} {
		r := operator.Command(t, "opencoded", args...)
		operator.Same(t, args[0]+" exits with", r.Code, 1)
		operator.Contains(t, args[0], r.Stderr, "instances.toml:5:23: instances.alpha.resources.state_max: /var/lib is on / (overlay), which has no project quotas "+
			"(put the state directory on ext4 or XFS mounted with the option prjquota; or remove the key)")
	}
	for _, p := range []string{"/var/lib/opencode", "/etc/systemd/system/opencode-alpha.service", "/etc/sysusers.d/opencode-alpha.conf"} {
		if _, err := os.Lstat(p); err == nil {
			t.Errorf("%s was made", p)
		}
	}
}
