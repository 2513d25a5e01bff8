# A failing hook keeps its instance from starting, and no other.
{ scenarioMachine, scenarios, ... }: {
  nodes.machine = scenarioMachine;
  testScript = scenarios [ "hook-failure" ];
}
