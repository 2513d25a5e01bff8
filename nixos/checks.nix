# What `nix flake check` builds: the functions and the module by what they give, and every virtual machine.
{ pkgs, examples }:
let
  inherit (pkgs) lib;
  inherit (lib.opencode) mkOpenCodeConfig wrapOpenCode;

  # A check is a script over what was built; expect FILE FILTER holds when jq's answer is true.
  check = name: inputs: script: pkgs.runCommand name { nativeBuildInputs = [ pkgs.jq ] ++ inputs; } ''
    expect() { jq -e "$2" "$1" >/dev/null || { echo "not so: $2" >&2; cat "$1" >&2; exit 1; }; }
    ${script}
    touch $out
  '';

  team.opencode = {
    model = "anthropic/claude-sonnet-4-5";
    share = "disabled";
    instructions = [ "/etc/house-rules.md" ];
    permission = { bash = { "*" = "ask"; "git log *" = "allow"; }; edit = "allow"; };
    agents.reviewer = { description = "Reviews"; mode = "subagent"; instructions = "Review what you are given."; };
    skills.deploying = { description = "How to deploy"; instructions = "Run make deploy."; };
    mcp.servers.tools = { command = "/bin/tools"; args = [ "--stdio" ]; };
    theme = "catppuccin";
  };
  mine.opencode = { share = lib.mkForce "manual"; instructions = [ "/etc/mine.md" ]; plugin = [ "opencode-plugin-x" ]; };
  machine = pkgs.nixos {
    imports = [ ./module.nix ];
    system.stateVersion = lib.trivial.release or "25.11";
    fileSystems."/" = { device = "none"; fsType = "tmpfs"; };
    boot.loader.grub.enable = false;
    services.opencode = {
      enable = true;
      supervisorPackage = pkgs.opencoded;
      defaults = { logLevel = "info"; networkIsolation.onBlock = "reject"; };
      instances.my-project = {
        directory = "/srv/my-project";
        listen.port = 8787;
        environmentFile = "/run/secrets/opencode-my-project.env";
        sandbox = { readWritePaths = [ "/srv/cache" ]; unixSockets.allow = [ "/run/postgresql" ]; };
        networkIsolation = { enable = true; outboundAllowCidrs = [ "10.0.0.0/8" "2001:db8::/32" ]; };
        config.permission.bash = "ask";
      };
    };
  };
  holds = wrapOpenCode { name = "chief"; modules = [ team ]; };
in
{
  empty-config = check "empty-config" [ ] ''
    expect ${mkOpenCodeConfig [ ]} 'del(."$schema") == {}'
  '';

  wrap-opencode-type = check "wrap-opencode-type" [ ] ''
    test -x ${holds}/bin/chief
    expect ${holds}/share/chief/tui.json '.theme == "catppuccin"'
    expect ${holds}/share/chief/opencode.json '.model == "anthropic/claude-sonnet-4-5"'
  '';

  field-output-check = let built = mkOpenCodeConfig [ team mine ]; in check "field-output-check" [ ] ''
    expect ${built} '.share == "manual"'
    expect ${built} '.instructions | sort == ["/etc/house-rules.md", "/etc/mine.md"]'
    expect ${built} '.permission.bash | keys_unsorted == ["*", "git log *"]'
    expect ${built} '.mcp.tools.command == ["/bin/tools", "--stdio"]'
    expect ${built} '.plugin == ["opencode-plugin-x"]'
    expect ${built} '[.. | nulls] == []'
    expect ${built} '.agent.reviewer.prompt == "Review what you are given."'
    test -e ${built.directory}/skills/deploying/SKILL.md
  '';

  # The name is what it was; the program itself reads what it would read.
  config-zod-tests = check "config-zod-tests" [ pkgs.opencode ] (lib.concatMapStrings
    (modules: ''
      export HOME=$(mktemp -d) OPENCODE_DISABLE_MODELS_FETCH=1
      mkdir -p $HOME/.config $HOME/project
      cp -rL ${(mkOpenCodeConfig modules).directory} $HOME/.config/opencode
      cd $HOME/project
      opencode debug config > ../resolved
      jq -S 'keys - ["$schema"]' $HOME/.config/opencode/opencode.json > ../wanted
      jq -S keys ../resolved > ../got
      jq -e --slurpfile got ../got '. - $got[0] == []' ../wanted
    '')
    ([ [ team ] ] ++ map (path: [ path ]) (builtins.attrValues examples)));

  overlay-mkOpenCodeConfig = check "overlay-mkOpenCodeConfig" [ ] ''
    expect ${pkgs.lib.opencode.mkOpenCodeConfig [ { opencode.username = "overlay"; } ]} '.username == "overlay"'
  '';

  overlay-wrapOpenCode = check "overlay-wrapOpenCode" [ ] ''
    test -x ${pkgs.lib.opencode.wrapOpenCode { name = "mine"; modules = [ { opencode.username = "overlay"; } ]; }}/bin/mine
  '';

  nixos-module-eval = check "nixos-module-eval" [ pkgs.opencoded ] ''
    inventory=${machine.config.environment.etc."opencode/instances.toml".source}
    opencoded validate $inventory
    grep -qx 'outbound_allow_cidrs = \["10.0.0.0/8", "2001:db8::/32"\]' $inventory
    grep -q 'unit_dir = "/run/systemd/system"' $inventory
    ${lib.concatMapStrings (a: "echo ${lib.escapeShellArg a.message} >&2; exit 1\n") (builtins.filter (a: !a.assertion) machine.config.assertions)}
  '';
}
// lib.optionalAttrs pkgs.stdenv.hostPlatform.isx86_64 (import ./vm-tests.nix { inherit pkgs; })
