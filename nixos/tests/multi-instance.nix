# Servers that the module declares come up; then their life, by the scenario.
{ scenarioMachine, scenarios, healthy, ... }: {
  nodes.machine = {
    imports = [ scenarioMachine ];
    services.opencode.instances = {
      first = { directory = "/srv/first"; listen.port = 8711; };
      second = { directory = "/srv/second"; listen.port = 8712; };
    };
  };
  testScript = ''
    machine.wait_for_unit("opencoded.service")
    ${healthy "first"}
    ${healthy "second"}
    machine.succeed("systemctl is-active opencode-first opencode-second")
    machine.succeed("id opencode-first && id opencode-second")
  '' + scenarios [ "lifecycle" ];
}
