# What an instance sees of the host and of the others.
{ scenarioMachine, scenarios, ... }: {
  nodes.machine = scenarioMachine;
  testScript = scenarios [ "isolation" "nested-paths" ];
}
