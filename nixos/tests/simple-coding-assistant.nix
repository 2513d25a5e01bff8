# The example as a module: its server comes up, its configuration is locked, and another generation that changes another
# instance does not restart it.
{ machine, healthy, ... }: {
  nodes.machine = {
    imports = [ machine ../../examples/simple-coding-assistant ];
    services.opencode.instances.assistant.environmentFile = "-/run/secrets/assistant.env";
    specialisation.neighbour.configuration.services.opencode.instances.neighbour = { directory = "/srv/neighbour"; listen.port = 8799; };
  };
  testScript = ''
    ${healthy "assistant"}
    machine.succeed("test -e /var/lib/opencoded/instances/assistant/config/agents/reviewer.md")
    machine.succeed("grep -q '\"default_agent\"' /var/lib/opencoded/instances/assistant/config/opencode.json")
    before = machine.succeed("systemctl show -P MainPID opencode-assistant")
    machine.succeed("/run/current-system/specialisation/neighbour/bin/switch-to-configuration test")
    ${healthy "neighbour"}
    assert machine.succeed("systemctl show -P MainPID opencode-assistant") == before, "the assistant was restarted"
  '';
}
