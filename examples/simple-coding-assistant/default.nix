# The layers of this directory, and the service, as a module: of a NixOS configuration (services.opencode), and of
# mkOpenCodeConfig and wrapOpenCode (opencode).
{ lib, options, ... }:
let
  layer = {
    model = lib.mkDefault "anthropic/claude-sonnet-4-5";
    small_model = lib.mkDefault "anthropic/claude-haiku-4-5"; # titles and summaries
    default_agent = "general";
    share = "disabled";
    autoupdate = false;

    # The last rule that matches decides. A list keeps its order; an attribute set would be sorted.
    permission = [
      { edit = "allow"; }
      { webfetch = "ask"; }
      {
        read = [
          { "*" = "allow"; }
          { "*.env" = "deny"; }
          { "*.env.*" = "deny"; }
          { "*.env.example" = "allow"; }
        ];
      }
      {
        bash = [
          { "*" = "allow"; }
          { "git push *" = "ask"; }
          { "git push" = "ask"; }
          { "git reset --hard *" = "deny"; }
          { "sudo *" = "deny"; }
          { "rm -rf /*" = "deny"; }
        ];
      }
      { skill."*" = "allow"; }
    ];

    agents = {
      general = ./agents/general.md;
      explorer = ./agents/explorer.md;
      implementer = ./agents/implementer.md;
      reviewer = ./agents/reviewer.md;
    };
    commands.review = ./commands/review.md;
    skills = {
      commit-messages = ./skills/commit-messages;
      release-notes = ./skills/release-notes;
    };
  };
in
{
  config =
    if options ? services then {
      services.opencode = {
        enable = true;
        instances.assistant = {
          directory = lib.mkDefault "/srv/project"; # yours: where the code is
          listen.port = lib.mkDefault 8787;
          environmentFile = lib.mkDefault "/etc/opencode/assistant.env"; # ANTHROPIC_API_KEY=…, root's, mode 0600
          config = layer // { username = lib.mkDefault "project"; };
          resources.memoryMax = lib.mkDefault "4G";
        };
      };
    } else { opencode = layer; };
}
