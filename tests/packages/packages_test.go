// Package packages builds the packages and does with that for Debian what an administrator does: install, upgrade,
// remove, purge, in a throwaway machine with the real dpkg.
package packages

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/machine"
	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/standin"
	"github.com/opencoded/opencoded/tests/tier"
)

func TestMain(m *testing.M) {
	machine.Init()
	os.Exit(m.Run())
}

const inventory = `version = 1
[host]
opencode = "/opt/opencode"
[instances.alpha]
directory = "/srv/alpha"
listen.port = 8701
`

func sum(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %x", filepath.Base(path), sha256.Sum256(data))
}

func TestPackages(t *testing.T) {
	tier.Need(t, "packages", tier.Machine())
	if machine.Inside() {
		machine.Run(t, machine.Options{}, lifeOfAPackage)
		return
	}
	deb, rpm := operator.Packages(t, "")
	first := sum(t, deb) + "\n" + sum(t, rpm)
	deb, rpm = operator.Packages(t, "")
	if again := sum(t, deb) + "\n" + sum(t, rpm); again != first {
		t.Errorf("two builds differ:\n%s\n%s", first, again)
	}
	var complaints bytes.Buffer
	lint := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", deb)
	lint.Stdout, lint.Stderr = &complaints, &complaints
	if err := lint.Run(); err != nil || complaints.Len() > 0 {
		t.Errorf("lintian: %v\n%s", err, complaints.String())
	}
	machine.Run(t, machine.Options{Name: "packages", Binds: []machine.Bind{
		{Source: deb, Target: "/root/opencoded.deb"}, standin.Build(t, "/opt/opencode"),
	}}, lifeOfAPackage)
}

// lifeOfAPackage: none of its steps touches a running instance, and none loses what somebody has written.
func lifeOfAPackage(t *testing.T) {
	install := func() { operator.Must(t, "dpkg", "--force-depends", "-i", "/root/opencoded.deb") }
	operator.Must(t, "rm", "-f", "/usr/sbin/policy-rc.d") // of the host below: it lets no package start anything
	install()
	operator.Same(t, "the service", operator.Must(t, "systemctl", "is-active", "opencoded"), "active")
	operator.Same(t, "the service at boot", operator.Must(t, "systemctl", "is-enabled", "opencoded"), "enabled")
	operator.Must(t, "getent", "group", "opencode-operators")
	operator.Contains(t, "version", operator.Must(t, "/usr/bin/opencoded", "version", "--json"), `"commit"`)
	operator.Same(t, "manual", operator.Command(t, "test", "-s", "/usr/share/man/man8/opencoded-apply.8.gz").Code, 0)
	operator.Same(t, "completion", operator.Command(t, "bash", "-n", "/usr/share/bash-completion/completions/opencoded").Code, 0)
	operator.Contains(t, "the default inventory", operator.Must(t, "/usr/bin/opencoded", "validate", operator.Inventory), "is valid")

	operator.Write(t, operator.Inventory, inventory, 0o644)
	operator.Must(t, "/usr/bin/opencoded", "reload")
	pid, service := operator.PID(t, "alpha"), servicePID(t)

	install() // as an upgrade does
	if servicePID(t) == service {
		t.Error("the service has not been restarted by the upgrade")
	}
	operator.Same(t, "alpha after an upgrade", operator.PID(t, "alpha"), pid)
	operator.Same(t, "the inventory after an upgrade", operator.Read(t, operator.Inventory), inventory)

	operator.Must(t, "dpkg", "--remove", "opencoded")
	operator.Same(t, "the program", operator.Command(t, "test", "-e", "/usr/bin/opencoded").Code, 1)
	operator.Same(t, "the service", servicePID(t), "0")
	operator.Same(t, "alpha after a removal", operator.PID(t, "alpha"), pid)
	operator.Same(t, "the inventory after a removal", operator.Read(t, operator.Inventory), inventory)
	operator.Must(t, "test", "-d", "/var/lib/opencode/instance-state/alpha")

	install()
	operator.Same(t, "alpha after another installation", operator.PID(t, "alpha"), pid)
	operator.Same(t, "the service", operator.Must(t, "systemctl", "is-active", "opencoded"), "active")

	operator.Must(t, "dpkg", "--purge", "opencoded")
	operator.Same(t, "the inventory after a purge", operator.Command(t, "test", "-e", operator.Inventory).Code, 1)
	operator.Must(t, "test", "-d", "/var/lib/opencode/instance-state/alpha")
	operator.Same(t, "alpha after a purge", operator.PID(t, "alpha"), pid)
	left := operator.Sh(t, "ls -d /etc/opencode /lib/systemd/system/opencoded.service /usr/share/doc/opencoded /etc/systemd/system/multi-user.target.wants/opencoded.service 2>/dev/null || true")
	operator.Same(t, "what is left", strings.TrimSpace(left), "")
}

func servicePID(t *testing.T) string {
	t.Helper()
	return operator.Must(t, "systemctl", "show", "-P", "MainPID", "opencoded")
}
