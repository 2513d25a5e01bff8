# A second apply, a restart and another set-up change nothing that is there.
{ scenarioMachine, scenarios, ... }: {
  nodes.machine = scenarioMachine;
  testScript = scenarios [ "setup-idempotence" ];
}
