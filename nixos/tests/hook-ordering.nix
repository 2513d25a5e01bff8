# Hooks run before the server, in their order, as the instance.
{ scenarioMachine, scenarios, ... }: {
  nodes.machine = scenarioMachine;
  testScript = scenarios [ "hook-ordering" ];
}
