# Egress over IPv4 and IPv6, and what is logged and counted of it.
{ scenarioMachine, scenarios, ... }: {
  nodes.machine = scenarioMachine;
  testScript = scenarios [ "network-policy" ];
}
