{
  description = "opencoded: many opencode servers on one Linux host, each of them safely by itself";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      # opencoded is a Linux program; its functions make text, which is of use anywhere.
      linux = [ "x86_64-linux" "aarch64-linux" ];
      everywhere = linux ++ [ "x86_64-darwin" "aarch64-darwin" ];
      pkgsFor = system: nixpkgs.legacyPackages.${system}.extend self.overlays.default;
      on = systems: f: lib.genAttrs systems (system: f (pkgsFor system));
      examples = {
        simple-coding-assistant = ./examples/simple-coding-assistant;
        chief-coding-assistant = ./examples/chief-coding-assistant;
      };
    in
    {
      overlays.default = import ./nixos/overlay.nix { version = self.shortRev or self.dirtyShortRev or "unstable"; };

      packages = on linux (pkgs: { default = pkgs.opencoded; inherit (pkgs) opencoded; inherit (pkgs.opencoded) scenarios; });

      # mkOpenCodeConfig and wrapOpenCode without the overlay.
      lib = on everywhere (pkgs: { inherit (pkgs.lib.opencode) mkOpenCodeConfig wrapOpenCode; });

      nixosModules = rec {
        opencode = ./nixos/module.nix;
        default = opencode;
      } // lib.mapAttrs' (name: path: lib.nameValuePair "example-${name}" path) examples;

      # Modules of a NixOS configuration, and of mkOpenCodeConfig.
      inherit examples;

      checks = on linux (pkgs: import ./nixos/checks.nix { inherit pkgs examples; });

      apps = on [ "x86_64-linux" ] (pkgs: {
        run-nixos-tests = {
          type = "app";
          meta.description = "boots every virtual machine of the tests, one after the other";
          program = lib.getExe (pkgs.writeShellScriptBin "run-nixos-tests" ''
            set -eu
            for name in ${toString (builtins.attrNames (import ./nixos/vm-tests.nix { inherit pkgs; }))}; do
              echo "== $name"
              nix build --no-link -L "${self}#checks.x86_64-linux.$name"
            done
          '');
        };
      });

      devShells = on linux (pkgs: {
        default = pkgs.mkShell { packages = [ pkgs.go pkgs.gopls pkgs.nftables pkgs.iproute2 pkgs.ripgrep pkgs.git pkgs.nodejs ]; };
      });

      formatter = on everywhere (pkgs: pkgs.nixpkgs-fmt);
    };
}
