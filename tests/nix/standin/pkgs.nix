# Stands in for nixpkgs' packages: the few builders that nixos/ uses, as shell scripts of this host without a sandbox,
# and two real programs. What is built with it is what nixpkgs would build, but for where the tools come from.
{ lib, opencoded, opencode, unit }:
let
  # A script as a derivation; what it is given stands in its environment.
  script = name: { passthru ? { }, meta ? { }, nativeBuildInputs ? [ ], ... }@args: text:
    derivation
      (removeAttrs args [ "passthru" "meta" "nativeBuildInputs" ] // {
        inherit name;
        system = builtins.currentSystem;
        builder = "/bin/sh";
        args = [ "-euc" "export HOME=$PWD PATH=${lib.concatMapStrings (p: "${p}/bin:") nativeBuildInputs}/usr/bin:/bin\n${text}" ];
      }) // { inherit meta; } // passthru;

  # A program of this host, as a package has it.
  host = name: { type = "derivation"; inherit name; outPath = "/usr"; drvPath = "/usr"; meta.mainProgram = name; };
  program = name: path: script name { meta.mainProgram = name; } "mkdir -p $out/bin; cp ${path} $out/bin/${name}";

  nixos = configuration: lib.evalModules { modules = [ ./nixos.nix configuration ]; specialArgs = { inherit pkgs; }; };

  pkgs = lib.genAttrs [
    "bash" "coreutils" "curl" "diffutils" "findutils" "gawk" "getent" "git" "gnugrep" "gnused" "gnutar" "go" "gopls" "gzip"
    "iproute2" "jq" "less" "nftables" "nixpkgs-fmt" "nodejs" "openssh" "patch" "postgresql" "procps" "python3" "ripgrep"
    "shadow" "systemd" "util-linux" "which" "xz"
  ]
    host // {
    inherit lib nixos;
    stdenv.hostPlatform = { isLinux = true; isx86_64 = builtins.currentSystem == "x86_64-linux"; system = builtins.currentSystem; };
    runCommand = script;
    writeText = name: text: script name { inherit text; passAsFile = [ "text" ]; } "cp $textPath $out";
    writeShellScriptBin = name: text: script name { inherit text; passAsFile = [ "text" ]; meta.mainProgram = name; }
      "mkdir -p $out/bin; { echo '#!/bin/sh'; cat $textPath; } > $out/bin/${name}; chmod +x $out/bin/${name}";
    buildEnv = { name, paths, ... }: script name { inherit paths; } "mkdir -p $out/bin";
    mkShell = { packages }: script "shell" { inherit packages; } "touch $out";
    buildGoModule = args: script args.pname { inherit (args) vendorHash; } "touch $out" // args.passthru or { };
    installShellFiles = null;
    callPackage = file: overrides:
      let f = import file; in f (builtins.intersectAttrs (builtins.functionArgs f) pkgs // overrides);
    opencode = program "opencode" opencode;
    opencoded = script "opencoded" { meta.mainProgram = "opencoded"; passthru.scenarios = host "opencoded-scenarios"; } ''
      mkdir -p $out/bin $out/lib/systemd/system
      cp ${opencoded} $out/bin/opencoded
      sed "s#/usr/local/bin#$out/bin#" ${unit} > $out/lib/systemd/system/opencoded.service
    '';
    # What a test would boot: its nodes, evaluated, and its script. Its assertions are those of its nodes.
    testers.runNixOSTest = test:
      let
        nodes = lib.mapAttrs (name: node: (nixos { imports = [ node ]; networking.hostName = name; }).config) test.nodes;
        wrong = lib.concatMap (n: map (a: a.message) (builtins.filter (a: !a.assertion) n.assertions)) (builtins.attrValues nodes);
      in
      if wrong != [ ] then throw "${test.name}: ${toString wrong}"
      else script test.name { passthru = { inherit nodes; inherit (test) testScript; }; } "touch $out";
    # An overlay on top, as nixpkgs applies one.
    extend = overlay: let final = pkgs // overlay final pkgs // { inherit (pkgs) opencoded opencode; }; in final;
  };
in
pkgs
