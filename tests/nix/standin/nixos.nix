# The options of NixOS that nixos/module.nix sets or asks, and any other as a free value: virtual machines set more.
{ lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; description = "As in NixOS."; };
  free = option (types.attrsOf types.anything) { };
  files = types.attrsOf (types.submodule { options = { source = option types.raw null; text = option (types.nullOr types.lines) null; }; });
in
{
  freeformType = types.attrsOf types.anything;
  options = {
    assertions = option (types.listOf types.raw) [ ];
    warnings = option (types.listOf types.str) [ ];
    environment = { etc = option files { }; systemPackages = option (types.listOf types.package) [ ]; };
    networking = { hostName = option types.str "nixos"; firewall.allowedTCPPorts = option (types.listOf types.int) [ ]; };
    systemd = {
      package = option types.raw pkgs.systemd;
      packages = option (types.listOf types.package) [ ];
      services = free;
      tmpfiles.rules = option (types.listOf types.str) [ ];
    };
    users = { mutableUsers = option types.bool true; users = free; groups = free; };
    system = { stateVersion = option types.str ""; etc = free; };
  };
}
