# The layers of this directory, and the service, as a module: of a NixOS configuration (services.opencode), and of
# mkOpenCodeConfig and wrapOpenCode (opencode).
{ lib, options, ... }:
let
  reading = [
    { "*" = "deny"; }
    { "git diff*" = "allow"; }
    { "git log*" = "allow"; }
    { "git show*" = "allow"; }
    { "git blame *" = "allow"; }
  ];
  # opencode fills in {env:…} in its configuration, not in the head of a markdown file.
  reviewer = name: description: temperature: {
    inherit description temperature;
    mode = "subagent";
    model = "{env:CHIEF_REVIEW_MODEL}";
    color = "warning";
    prompt = "{file:${./agents/review + "/${name}.md"}}";
    permission.bash = reading;
  };
  explorer = name: description: {
    inherit description;
    mode = "subagent";
    model = "{env:CHIEF_EXPLORE_MODEL}";
    temperature = 0.1;
    steps = 40;
    color = "info";
    prompt = "{file:${./agents/explore + "/${name}.md"}}";
  };

  layer = {
    model = lib.mkDefault "{env:CHIEF_MODEL}";
    small_model = lib.mkDefault "{env:CHIEF_SMALL_MODEL}";
    default_agent = "chief";
    share = "disabled";
    autoupdate = false;
    instructions = [ "${./house-rules.md}" ];
    enabled_providers = [ "anthropic" "openai" "house" ];

    # Nothing is allowed but what stands below. The last rule that matches decides.
    permission = [
      { "*" = "deny"; }
      { glob = "allow"; }
      { grep = "allow"; }
      { list = "allow"; }
      { lsp = "allow"; }
      { question = "allow"; }
      { todowrite = "allow"; }
      { doom_loop = "ask"; }
      {
        read = [
          { "*" = "allow"; }
          { "*.env" = "deny"; }
          { "*.env.*" = "deny"; }
          { "*.env.example" = "allow"; }
          { "*.pem" = "deny"; }
          { "*id_rsa*" = "deny"; }
          { "*id_ed25519*" = "deny"; }
        ];
      }
      { skill."*" = "allow"; }
      { "repository_*" = "allow"; }
      { "tracker_*" = "ask"; }
      { "tracker_get_*" = "allow"; }
      { "tracker_search_*" = "allow"; }
      { webfetch = "ask"; }
    ];

    provider = {
      anthropic.options = { apiKey = "{env:ANTHROPIC_API_KEY}"; timeout = 600000; };
      openai.options.apiKey = "{env:OPENAI_API_KEY}";
      house = {
        npm = "@ai-sdk/openai-compatible";
        name = "Our own server";
        options = { baseURL = "{env:CHIEF_HOUSE_URL}"; apiKey = "{env:CHIEF_HOUSE_KEY}"; };
        models = {
          coder-large = {
            name = "Coder, large";
            reasoning = true;
            tool_call = true;
            attachment = true;
            temperature = true;
            limit = { context = 131072; output = 16384; };
            cost = { input = 0; output = 0; };
            modalities = { input = [ "text" "image" ]; output = [ "text" ]; };
          };
          coder-small = {
            name = "Coder, small";
            reasoning = false;
            tool_call = true;
            attachment = false;
            temperature = true;
            limit = { context = 65536; output = 8192; };
            cost = { input = 0; output = 0; };
            modalities = { input = [ "text" ]; output = [ "text" ]; };
          };
        };
      };
    };

    mcp = {
      repository = {
        type = "local";
        command = [ "mcp-server-git" "--repository" "." ];
        environment.GIT_PAGER = "cat";
        timeout = 10000;
        enabled = lib.mkDefault false;
      };
      tracker = {
        type = "remote";
        url = "https://tracker.example.com/mcp";
        headers.Authorization = "Bearer {env:TRACKER_TOKEN}";
        oauth = false;
        enabled = lib.mkDefault false;
      };
    };

    agents = {
      chief = ./agents/lead/chief.md;
      planner = ./agents/lead/planner.md;
      "expert/go" = ./agents/expert/go.md;
      "expert/rust" = ./agents/expert/rust.md;
      "expert/python" = ./agents/expert/python.md;
      "expert/typescript" = ./agents/expert/typescript.md;
      "expert/nix" = ./agents/expert/nix.md;
      "expert/sql" = ./agents/expert/sql.md;
      "expert/shell" = ./agents/expert/shell.md;
      tester = ./agents/work/tester.md;
      writer = ./agents/work/writer.md;
    };
    agent = {
      "review/security" = reviewer "security" "Looks for holes in a change: injection, broken access checks, leaked secrets, unsafe defaults" 0.1;
      "review/correctness" = reviewer "correctness" "Looks for wrong results in a change: edge cases, error paths, races, broken promises" 0.1;
      "review/performance" = reviewer "performance" "Looks for what gets slow or big with more data, more users or more time" 0.1;
      "review/docs" = reviewer "docs" "Checks that documentation, messages and comments say what the code does" 0.4;
      "explore/codebase" = explorer "codebase" "Finds out where and how this code base does something";
      "explore/dependencies" = explorer "dependencies" "Finds out what the project depends on, in which versions, and what a library really does";
      "explore/history" = explorer "history" "Finds out since when, by which change and why something is as it is" // {
        permission.bash = [
          { "*" = "deny"; }
          { "git log*" = "allow"; }
          { "git show*" = "allow"; }
          { "git blame *" = "allow"; }
          { "git diff*" = "allow"; }
        ];
      };
      # opencode's own agents would be a way around the rules above.
      build.disable = true;
      plan.disable = true;
      general.disable = true;
      explore.disable = true;
    };
    commands = {
      plan = ./commands/plan.md;
      review = ./commands/review.md;
      "check/tests" = ./commands/check-tests.md;
    };
    skills.handing-over = ./skills/handing-over;

    compaction = { auto = true; prune = true; };
    theme = lib.mkDefault "catppuccin";
    keybinds = { session_new = "ctrl+n"; agent_cycle = "f2"; };
    tui = { scroll_speed = 3; diff_style = "stacked"; };
  };
in
{
  config =
    if options ? services then {
      services.opencode = {
        enable = true;
        instances.chief = {
          directory = lib.mkDefault "/srv/project"; # yours: where the code is
          listen.port = lib.mkDefault 8790;
          environmentFile = lib.mkDefault "/etc/opencode/chief.env"; # models and keys, root's, mode 0600
          agents."host/runbook" = ./agents/host/runbook.md; # what only this host has
          config = layer // { username = lib.mkDefault "team"; };
          resources = { memoryMax = lib.mkDefault "6G"; cpuQuota = lib.mkDefault "300%"; };
        };
      };
    } else { opencode = layer; };
}
