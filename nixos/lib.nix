# mkOpenCodeConfig and wrapOpenCode: modules are merged by the module system, and what comes out is checked and written
# by opencoded, as layers of an inventory are.
{ lib, pkgs }:
let
  schema = lib.importJSON ./schema.json;
  options = import ./schema-types.nix { inherit lib schema; };
  toTOML = import ./toml.nix { inherit lib; };
  configuration = { "$ref" = "#/$defs/Configuration"; };

  # opencoded is a Linux program. What it makes here is text, so elsewhere a builder for Linux makes it.
  builders = if pkgs.stdenv.hostPlatform.isLinux then pkgs else pkgs.pkgsLinux;
  opencoded = builders.opencoded or (builders.callPackage ./package.nix { });

  evaluate = modules: (lib.evalModules {
    specialArgs = { inherit pkgs; };
    modules = [{
      options.opencode = lib.mkOption {
        type = lib.types.submodule (options.module configuration);
        default = { };
        description = "Keys of opencode.json, and of tui.json as `theme`, `keybinds` and `tui`.";
      };
    }] ++ modules;
  }).config.opencode;
  layer = modules: builders.writeText "opencode.toml" (toTOML (options.serialise configuration (evaluate modules)));
  run = name: passthru: builders.runCommand name { nativeBuildInputs = [ opencoded ]; inherit passthru; };
in
{
  # The options that modules set, for documentation: lib.optionAttrSetToDocList takes them.
  inherit evaluate;

  # opencode.json as a file. `directory` has it with its agents, skills and commands beside it, as opencode wants them in
  # OPENCODE_CONFIG_DIR.
  mkOpenCodeConfig = modules:
    let
      source = layer modules;
      directory = run "opencode-config" { } "opencoded config build -o $out --base $out ${source}";
    in
    run "opencode.json" { inherit directory; layer = source; } "ln -s ${directory}/opencode.json $out";

  # A program that runs opencode with this configuration, which holds against a project's own unless projectConfig.
  wrapOpenCode = { name, modules, opencode ? pkgs.opencode, projectConfig ? false }:
    run name { layer = layer modules; meta.mainProgram = name; } ''
      opencoded wrap --name ${lib.escapeShellArg name} --opencode ${lib.getExe opencode} ${lib.optionalString projectConfig "--project-config"} \
        --out wrapped ${layer modules}
      cp -r wrapped $out
    '';
}
