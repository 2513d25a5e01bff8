package machine_test

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/opencoded/opencoded/tests/tier"
)

// A machine boots in a chroot too, as builders of packages use it. It is entered by the namespaces' root, which is
// not the chroot's: everything that looks at the machine from inside sees nothing of it if the two differ.
func TestInAChroot(t *testing.T) {
	tier.Need(t, "machine", tier.Machine())
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// Shared, as the mounts of a host with systemd are. The namespace is this command's own and goes with it.
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--propagation=private", "sh", "-euc", `
		mount --bind / "$1"
		mount -t proc proc "$1/proc"
		mount -t tmpfs tmpfs "$1/tmp"
		for dir in sys dev run; do mount --rbind /$dir "$1/$dir"; done
		mount --make-rshared /
		cp "$2" "$1/tmp/machine.test"
		before=$(cat /proc/self/mountinfo)
		chroot "$1" /tmp/machine.test -test.run '^TestMachine$' -test.v
		[ "$before" = "$(cat /proc/self/mountinfo)" ] || { echo "the mounts outside have changed"; exit 1; }
	`, "sh", t.TempDir(), self)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("in a chroot: %v\n%s", err, out)
	}
}
