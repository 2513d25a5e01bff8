# What the tests in virtual machines share.
{ pkgs }:
let
  inherit (pkgs) lib;
  # Where an administrator of Debian has them, which is where the scenarios look.
  programs = pkgs.buildEnv {
    name = "opencoded-scenario-programs";
    paths = with pkgs; [
      opencoded opencode bash coreutils curl findutils gawk git gnugrep gnused iproute2 nftables procps python3 ripgrep shadow util-linux which
    ];
    pathsToLink = [ "/bin" ];
    ignoreCollisions = true;
  };
in
rec {
  inherit pkgs;

  # A machine with opencoded as its module sets it up.
  machine = {
    imports = [ ./module.nix ];
    services.opencode = { enable = true; supervisorPackage = pkgs.opencoded; defaults.package = pkgs.opencode; };
    virtualisation = { memorySize = 4096; cores = 2; diskSize = 4096; };
    environment.systemPackages = [ pkgs.curl pkgs.jq ];
  };

  # A machine for scenarios of tests/scenario.
  scenarioMachine = {
    imports = [ machine ];
    systemd.tmpfiles.rules = [
      "L+ /usr/local/bin - - - - ${programs}/bin"
      "L+ /bin/bash - - - - ${lib.getExe pkgs.bash}"
    ];
  };

  # Runs scenarios by the binary that the Debian tiers run too. They write inventories of their own, so the module's
  # makes room; where units go is told by OPENCODED_MACHINE_HOST, since /etc/systemd is read-only here.
  scenarios = names: ''
    machine.wait_for_unit("opencoded.service")
    machine.succeed("systemctl stop opencoded && rm /etc/opencode/instances.toml")
  '' + lib.concatMapStrings
    (name: ''
      machine.succeed(
          "PATH=/usr/local/bin:$PATH OPENCODED_MACHINE=1 REQUIRE=all OPENCODED_MACHINE_HOST='unit_dir = \"/run/systemd/system\"' "
          "${lib.getExe' pkgs.opencoded.scenarios "opencoded-scenarios"} -test.v -test.run '^TestScenarios$/^${name}$' >&2"
      )
    '')
    names;

  # Python that waits until a server answers as opencoded expects it to.
  healthy = name: ''machine.wait_until_succeeds("opencoded status --json | jq -e '.instances[] | select(.instance == \"${name}\" and .state == \"healthy\")'", timeout=300)'';
}
