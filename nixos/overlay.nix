# opencoded, and lib.opencode with mkOpenCodeConfig and wrapOpenCode. `version` is what the program calls itself.
{ version ? "unstable" }:
final: prev: {
  opencoded = final.callPackage ./package.nix { inherit version; };
  lib = prev.lib.extend (lib: _: { opencode = import ./lib.nix { inherit lib; pkgs = final; }; });
}
