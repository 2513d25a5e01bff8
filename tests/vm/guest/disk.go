package guest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/tier"
)

// Packages of the guest's root besides what scripts/guest-root always brings: a kernel with its initramfs, and what
// makes the root a system that boots.
var packages = []string{"linux-image-cloud-amd64", "systemd-sysv", "udev"}

// Disk is a disk with an installed system, and the kernel to boot it with.
type Disk struct{ kernel, initrd, overlay string }

// makeImage makes a file system of what both directories hold, the first one over the second. The mount goes with the
// namespace; what is empty takes no room.
const makeImage = `
mount -t overlay -o lowerdir="$1:$2" overlay "$3"
exec mke2fs -q -t ext4 -L root -d "$3" "$4" 4G
`

// NewDisk makes a disk with the system of scripts/guest-root of the suite $VM_SUITE (default bookworm) and these files,
// which belong to root. It goes with the test.
func NewDisk(t *testing.T, files ...machine.Bind) *Disk {
	t.Helper()
	root, err := root()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	in := func(name string) string { return filepath.Join(work, name) }
	added, base, overlay := in("added"), in("base.raw"), in("overlay.qcow2")
	for path, text := range map[string]string{
		"/etc/machine-id":                      strings.Repeat("0123456789abcdef", 2) + "\n", // none would be a first boot, which enables all units
		"/etc/hostname":                        "guest\n",
		"/etc/hosts":                           "127.0.0.1 localhost\n127.0.1.1 guest\n::1 localhost\n",
		"/etc/systemd/journald.conf.d/vm.conf": "[Journal]\nStorage=persistent\nRateLimitBurst=0\n",
		"/etc/systemd/system/vm-agent.service": agentUnit,
	} {
		write(t, added+path, []byte(text), 0o644)
	}
	wants := added + "/etc/systemd/system/multi-user.target.wants/vm-agent.service"
	if err := errors.Join(os.MkdirAll(filepath.Dir(wants), 0o755), os.Symlink("../vm-agent.service", wants)); err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, machine.Bind{Source: self, Target: binaryInside}) {
		copyFile(t, f.Source, added+f.Target)
	}
	if err := os.Mkdir(in("merged"), 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "unshare", "--mount", "--propagation", "private", "sh", "-euc", makeImage, "sh", added, root, in("merged"), base)
	must(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", overlay)
	kernel, initrd, err := kernelOf(root)
	if err != nil {
		t.Fatal(err)
	}
	return &Disk{kernel, initrd, overlay}
}

// root is the directory that scripts/guest-root made for guests.
func root() (string, error) {
	return tier.GuestRoot(cmp.Or(os.Getenv("VM_SUITE"), "bookworm"), packages...)
}

// kernelOf finds the one kernel that is installed in a root.
func kernelOf(root string) (kernel, initrd string, err error) {
	kernels, err := filepath.Glob(root + "/boot/vmlinuz-*")
	if err == nil && len(kernels) != 1 {
		err = fmt.Errorf("%d kernels in %s/boot, want one (remove %[2]s to have it made anew)", len(kernels), root)
	}
	if err != nil {
		return "", "", err
	}
	return kernels[0], strings.Replace(kernels[0], "/vmlinuz-", "/initrd.img-", 1), nil
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	st, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, text, st.Mode().Perm()&0o755)
}

func write(t *testing.T, path string, text []byte, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, mode)); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}
