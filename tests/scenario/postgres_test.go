package scenario

import (
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
	"github.com/opencoded/opencoded/tests/tier"
)

// postgresSocket: an instance that is allowed PostgreSQL's socket directory gets
// an answer over it, one that is not cannot reach it.
func postgresSocket(t *testing.T) {
	bin, err := tier.Postgres()
	tier.Need(t, "postgres", err)
	operator.Sh(t, `
install -d -o postgres -g postgres /run/postgresql /var/lib/pg
runuser -u postgres -- `+bin+`/initdb -D /var/lib/pg/data -A trust >/dev/null
systemd-run -q --unit=pg -p User=postgres -p Restart=no `+bin+`/postgres -D /var/lib/pg/data -c unix_socket_directories=/run/postgresql -c listen_addresses=`)
	operator.Eventually(t, "PostgreSQL is up", func() bool { return operator.Command(t, bin+"/pg_isready", "-h", "/run/postgresql").Code == 0 })
	operator.Apply(t, twoInstances+`
[instances.alpha.sandbox.unix_sockets]
allow = ["/run/postgresql", "/run/not-there-yet"]
`)
	query := bin + "/psql -h /run/postgresql -U postgres -tAc 'SELECT 1'"
	alpha, beta := enter(t, "alpha"), enter(t, "beta")
	operator.Same(t, "what alpha gets", alpha.must(t, query), "1")
	beta.refused(t, query, "No such file or directory")

	// A server that restarts is reachable again: its directory was bound, not the
	// socket.
	operator.Must(t, "systemctl", "stop", "pg")
	alpha.refused(t, query, "No such file or directory")
	operator.Sh(t, `systemd-run -q --unit=pg -p User=postgres `+bin+`/postgres -D /var/lib/pg/data -c unix_socket_directories=/run/postgresql -c listen_addresses=`)
	operator.Eventually(t, "PostgreSQL is back", func() bool { return operator.Command(t, bin+"/pg_isready", "-h", "/run/postgresql").Code == 0 })
	operator.Same(t, "what alpha gets after a restart", alpha.must(t, query), "1")
	alpha.refused(t, "touch /run/postgresql/x", "Read-only file system")
}
