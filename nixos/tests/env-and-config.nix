# Variables, secrets, and the configuration in its place.
{ scenarioMachine, scenarios, ... }: {
  nodes.machine = scenarioMachine;
  testScript = scenarios [ "environment" ];
}
