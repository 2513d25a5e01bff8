package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

const qemu = "qemu-system-x86_64"

// Check says what keeps a virtual machine from booting on this host, with its remedy, or nil. It makes the root of the
// disks when that is missing, which takes some minutes and is done once.
func Check() error {
	switch {
	case runtime.GOARCH != "amd64":
		return fmt.Errorf("virtual machines are made for amd64 alone, and this is %s (run it on amd64)", runtime.GOARCH)
	case os.Geteuid() != 0:
		return errors.New("not root (run the tests as root, for example with sudo)")
	}
	for _, c := range []struct{ command, pkg string }{
		{qemu, "qemu-system-x86"}, {"qemu-img", "qemu-utils"}, {"mke2fs", "e2fsprogs"}, {"unshare", "util-linux"},
	} {
		if _, err := exec.LookPath(c.command); err != nil {
			return fmt.Errorf("no command %s (run scripts/prepare, or apt-get install %s)", c.command, c.pkg)
		}
	}
	_, err := root()
	return err
}

// accelerator is what QEMU runs a guest with, found out once: the processor's own virtualization where a kernel gets as
// far as looking for its disk, else emulation. That /dev/kvm opens, and makes virtual machines, is no proof: there are
// hosts where it does and every kernel then hangs.
var accelerator = sync.OnceValue(func() string {
	const emulation = "tcg"
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return emulation
	}
	device.Close()
	root, err := root()
	if err != nil {
		return emulation
	}
	kernel, _, err := kernelOf(root)
	if err != nil {
		return emulation
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	// Without a disk it panics, and without -no-reboot it would begin again.
	err = exec.CommandContext(ctx, qemu, "-accel", "kvm", "-cpu", "max", "-m", "512", "-nodefaults", "-no-user-config",
		"-display", "none", "-nic", "none", "-no-reboot", "-kernel", kernel, "-append", "panic=-1").Run()
	if err != nil {
		return emulation
	}
	return "kvm"
})
