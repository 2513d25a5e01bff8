# The allowlist of Unix sockets, with PostgreSQL.
{ pkgs, scenarioMachine, scenarios, ... }: {
  nodes.machine = {
    imports = [ scenarioMachine ];
    users.users.postgres = { isSystemUser = true; group = "postgres"; };
    users.groups.postgres = { };
    # Where the scenario looks for the server's programs.
    systemd.tmpfiles.rules = [ "L+ /usr/lib/postgresql/17/bin - - - - ${pkgs.postgresql}/bin" ];
  };
  testScript = scenarios [ "postgres-socket" ];
}
