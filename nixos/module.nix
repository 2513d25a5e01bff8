# opencoded as a NixOS service. This module writes the inventory, with only the values that were set, and has opencoded
# check it while the system is built; accounts, units, egress rules and configurations are opencoded's work at run time.
{ config, lib, pkgs, ... }:
let
  inherit (lib) types;
  cfg = config.services.opencode;

  schema = lib.importJSON ./schema.json;
  options = import ./schema-types.nix { inherit lib schema; };
  toTOML = import ./toml.nix { inherit lib; };
  schemaOf = name: options.deref schema.properties.${name};
  # What NixOS knows better, or calls otherwise.
  without = keys: s: s // { properties = removeAttrs s.properties keys; };
  host = without [ "opencode" "unit_dir" ] (schemaOf "host");
  instance = without [ "enable" "opencode" "package" "path" "open_firewall" ] (options.deref schema.properties.instances.additionalProperties);
  defaults = removeAttrs instance [ "required" ];

  local = {
    package = lib.mkOption {
      type = types.nullOr types.package;
      default = null;
      defaultText = lib.literalMD "that of `services.opencode.defaults`, or `pkgs.opencode`";
      description = "The opencode that runs.";
    };
    path = lib.mkOption {
      type = types.nullOr (types.listOf (types.either types.package types.str));
      default = null;
      defaultText = lib.literalMD "that of `services.opencode.defaults`";
      example = lib.literalExpression "[ pkgs.go pkgs.gopls ]";
      description = "Packages whose programs the agent finds, besides the shell, git and the usual tools.";
    };
    openFirewall = lib.mkOption {
      type = types.nullOr types.bool;
      default = null;
      defaultText = lib.literalExpression "false";
      description = "Whether to open the port in `networking.firewall`.";
    };
  };

  enabled = lib.filterAttrs (_: i: i.enable) cfg.instances;
  # What an instance says, else the defaults, else the schema.
  first = values: fallback: lib.findFirst (v: v != null) fallback values;
  portOf = i: first [ i.listen.port cfg.defaults.listen.port ] instance.properties.listen.properties.port.default;
  addressOf = i: first [ i.listen.address cfg.defaults.listen.address ] instance.properties.listen.properties.address.default;
  opens = i: first [ i.openFirewall cfg.defaults.openFirewall ] false;
  userOf = name: i: first [ i.user cfg.defaults.user ] "opencode-${name}";
  groupOf = name: i: first [ i.group cfg.defaults.group ] (userOf name i);
  homeOf = name: i: first [ i.stateDir cfg.defaults.stateDir ] "${first [ cfg.host.stateRoot ] host.properties.state_root.default}/${name}";

  # Outside of /usr/bin there is nothing by itself: what an agent's shell, opencode and the managed set-up expect.
  tools = with pkgs; [
    bash coreutils curl diffutils findutils gawk git gnugrep gnused gnutar gzip less openssh patch procps ripgrep which xz
  ];
  directories = map (p: if lib.isDerivation p then "${lib.getBin p}/bin" else p);
  searchPath = own: lib.unique (directories (own ++ tools));
  # An instance has a root of its own, in which the store and /etc are visible. The system's profile is not, and
  # profiles of shells look there. A link of an older generation leads to the store all the same.
  visible = [ "-/run/current-system" ];

  set = lib.filterAttrs (_: v: v != null && v != { });
  # Lists of an instance replace those of the defaults, so what is added here is added to both.
  common = i: set {
    opencode = if i.package == null then null else lib.getExe i.package;
    path = if i.path == null then null else searchPath i.path;
  };
  addVisible = values: lib.recursiveUpdate values (
    lib.optionalAttrs (values ? sandbox.read_only_paths) { sandbox.read_only_paths = values.sandbox.read_only_paths ++ visible; }
  );
  inventory = {
    version = 1;
    host = options.serialise host cfg.host // { unit_dir = "/run/systemd/system"; };
    defaults = addVisible (lib.recursiveUpdate { sandbox.read_only_paths = [ ]; } (options.serialise defaults cfg.defaults))
      // { opencode = lib.getExe (first [ cfg.defaults.package ] pkgs.opencode); path = searchPath (first [ cfg.defaults.path ] [ ]); };
    instances = lib.mapAttrs
      (_: i: addVisible (options.serialise instance i) // common i // lib.optionalAttrs (!i.enable) { enable = false; })
      cfg.instances;
  };
  # Not in the build directory: what the inventory names lies beside it in the store, and is checked too.
  written = pkgs.writeText "opencode-instances.toml" (toTOML inventory);
  checked = pkgs.runCommand "instances.toml" { nativeBuildInputs = [ cfg.supervisorPackage ]; } ''
    opencoded validate ${written} || {
      echo "services.opencode is not valid: its options are named as the keys above, in camel case" >&2
      exit 1
    }
    cp ${written} $out
  '';

  at = name: "services.opencode.instances.${name}";
  declareAccounts = !config.users.mutableUsers;
  names = builtins.attrNames cfg.instances;
in
{
  options.services.opencode = {
    enable = lib.mkEnableOption "opencoded, a supervisor of opencode servers";
    supervisorPackage = lib.mkOption {
      type = types.package;
      default = pkgs.opencoded or (pkgs.callPackage ./package.nix { });
      defaultText = lib.literalExpression "pkgs.opencoded";
      description = "The opencoded that runs the servers.";
    };
    host = lib.mkOption {
      type = types.submodule (options.module host);
      default = { };
      description = "Settings of the host.";
    };
    defaults = lib.mkOption {
      type = types.submodule [ (options.module defaults) { options = local; } ];
      default = { };
      description = "Values for instances that set none of their own. Tables merge key by key, lists of an instance replace.";
    };
    instances = lib.mkOption {
      type = types.attrsOf (types.submodule [
        (options.module instance)
        { options = local // { enable = lib.mkEnableOption "this instance" // { default = true; }; }; }
      ]);
      default = { };
      example = lib.literalExpression ''
        {
          my-project = {
            directory = "/srv/my-project";
            listen.port = 8787;
            environmentFile = "/run/secrets/opencode-my-project.env";
            networkIsolation = { enable = true; outboundAllowCidrs = [ "10.0.0.0/8" ]; };
          };
        }
      '';
      description = "opencode servers, by name.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions =
      map
        (name: {
          assertion = builtins.match schema.properties.instances.propertyNames.x-nix-pattern name != null && !lib.hasSuffix "-setup" name;
          message = "${at name}: use 1 to 22 lower-case letters, digits and hyphens, beginning with a letter, ending with neither a hyphen nor -setup";
        })
        names
      ++ lib.concatMap
        (name: map
          (other: {
            assertion = portOf cfg.instances.${name} != portOf cfg.instances.${other};
            message = "${at name}.listen.port: ${toString (portOf cfg.instances.${name})} is also the port of ${at other} (give each instance a port of its own)";
          })
          (builtins.filter (other: other < name) names))
        names
      ++ lib.mapAttrsToList
        (name: i: {
          assertion = !declareAccounts || userOf name i == "opencode-${name}" || config.users.users ? ${userOf name i};
          message = "${at name}.user: there is no users.users.${userOf name i}, and users.mutableUsers is false (declare it, or leave user out)";
        })
        enabled
      ++ [{
        assertion = declareAccounts || !(config.system.etc.overlay.enable or false) || config.system.etc.overlay.mutable or true;
        message = "services.opencode: /etc cannot be changed, so opencoded cannot make accounts (set users.mutableUsers = false, which declares them)";
      }];

    warnings = lib.concatLists (lib.mapAttrsToList
      (name: i:
        lib.optional (i.configFile != null && lib.any (v: v != null && v != { } && v != [ ])
          [ (options.serialise instance.properties.config i.config) i.configLayers i.model i.agents i.skills i.commands ])
          "${at name}.configFile is used as it is: config, configLayers, model, agents, skills and commands have no effect"
        ++ lib.optional (opens i && (addressOf i == "::1" || lib.hasPrefix "127." (addressOf i)))
          "${at name}.openFirewall has no effect while the server listens on ${addressOf i}, which no other host reaches (set listen.address)")
      enabled);

    environment.systemPackages = [ cfg.supervisorPackage ];
    # By this link, which the daemon follows: a new generation is one change of an inventory.
    environment.etc."opencode/instances.toml".source = checked;
    networking.firewall.allowedTCPPorts = map portOf (builtins.filter opens (builtins.attrValues enabled));

    systemd.packages = [ cfg.supervisorPackage ];
    systemd.services.opencoded = {
      wantedBy = [ "multi-user.target" ];
      # getent, systemd-sysusers, journalctl, userdel
      path = [ pkgs.getent config.systemd.package pkgs.shadow ];
      # A changed inventory is read again; the switch waits for the outcome and tells it.
      reloadTriggers = [ "${checked}" ];
      # Another opencoded is started at once, and restarts no instance.
      stopIfChanged = false;
    };

    # With mutable users opencoded makes its accounts itself. Otherwise every activation would remove them.
    users = lib.mkIf declareAccounts {
      users = lib.mkMerge (lib.mapAttrsToList
        (name: i: lib.mkIf (userOf name i == "opencode-${name}") {
          "opencode-${name}" = { isSystemUser = true; group = groupOf name i; home = homeOf name i; description = "opencode, instance ${name}"; };
        })
        enabled);
      groups = lib.mkMerge (lib.mapAttrsToList (name: i: lib.mkIf (userOf name i == "opencode-${name}") { ${groupOf name i} = { }; }) enabled);
    };
  };
}
