# What the tests evaluate and build: everything of nixos/ with a lib (nixpkgs' own, or the one that stands in for it) and
# with packages of this host.
{ nixpkgs ? "", opencoded, opencode, unit }:
let
  lib = if nixpkgs == "" then import ./standin/lib.nix else import (nixpkgs + "/lib");
  plain = import ./standin/pkgs.nix { inherit lib opencoded opencode unit; };
  flake = (import ../../flake.nix).outputs {
    self = flake // { outPath = toString ../..; };
    nixpkgs = { inherit lib; legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ] (_: plain); };
  };
  pkgs = plain.extend flake.overlays.default;

  machine = settings: pkgs.nixos {
    imports = [ flake.nixosModules.default settings ];
    services.opencode.enable = true;
    services.opencode.supervisorPackage = pkgs.opencoded;
  };
in
{
  inherit lib pkgs flake machine;

  # What a configuration leads to, as data.
  outcome = settings: let c = (machine settings).config; in {
    failed = map (a: a.message) (builtins.filter (a: !a.assertion) c.assertions);
    inherit (c) warnings;
    ports = c.networking.firewall.allowedTCPPorts;
    users = lib.mapAttrs (_: u: { inherit (u) group home isSystemUser; }) c.users.users;
    groups = builtins.attrNames c.users.groups;
    inventory = "${c.environment.etc."opencode/instances.toml".source}";
    service = {
      inherit (c.systemd.services.opencoded) wantedBy stopIfChanged;
      reloads = map toString c.systemd.services.opencoded.reloadTriggers;
    };
  };

  # Every option of the module, as the manual of NixOS lists them.
  documented = lib.optionAttrSetToDocList (machine { }).options.services;

  tests = lib.mapAttrs (_: t: t.testScript) (lib.filterAttrs (_: t: t ? testScript) flake.checks.x86_64-linux);
}
