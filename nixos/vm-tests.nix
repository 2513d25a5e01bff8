# Virtual machines, each a file of tests/. They need KVM.
{ pkgs }:
let
  inherit (pkgs) lib;
  names = builtins.filter (lib.hasSuffix ".nix") (builtins.attrNames (builtins.readDir ./tests));
  testing = import ./testing.nix { inherit pkgs; };
in
lib.genAttrs (map (lib.removeSuffix ".nix") names)
  (name: pkgs.testers.runNixOSTest ({ inherit name; } // import (./tests + "/${name}.nix") testing))
