# opencoded for nixpkgs: the program, its unit, man pages and completions.
{ lib, buildGoModule, installShellFiles, version ? "unstable" }:
let
  # What the program is made of; documentation and this directory change more often.
  source = lib.sourceByRegex ../. [ "go\\.(mod|sum)" "(cmd|internal|packaging|tests)(/.*)?" ];
  base = {
    inherit version;
    src = source;
    # Of `go mod vendor`; tests/nix computes it anew.
    vendorHash = "sha256-++4sQzRwJ60JfLRlHzrMpxrqawWIMJVkDULtvRvUwXI=";
    env.CGO_ENABLED = "0";
    # Most tests need root, systemd and nftables: `make test`, and the checks of flake.nix.
    doCheck = false;
  };
in
buildGoModule (base // {
  pname = "opencoded";
  subPackages = [ "cmd/opencoded" ];
  ldflags = [ "-s" "-w" "-X main.version=${version}" ];
  nativeBuildInputs = [ installShellFiles ];
  postInstall = ''
    SOURCE_DATE_EPOCH=''${SOURCE_DATE_EPOCH:-1} GOOS= GOARCH= go run -tags generate ./cmd/opencoded generated
    installManPage generated/man/*.8
    installShellCompletion generated/opencoded.bash generated/opencoded.fish --zsh generated/_opencoded
    mkdir -p $out/lib/systemd/system
    sed "s#/usr/local/bin#$out/bin#" packaging/opencoded.service > $out/lib/systemd/system/opencoded.service
  '';
  # The end-to-end scenarios as a program, for virtual machines (nixos/testing.nix).
  passthru.scenarios = buildGoModule (base // {
    pname = "opencoded-scenarios";
    buildPhase = "go test -c -o scenarios ./tests/scenario";
    installPhase = "install -D scenarios $out/bin/opencoded-scenarios";
  });
  meta = {
    description = "Many opencode servers on one Linux host, each of them safely by itself";
    homepage = "https://github.com/opencoded/opencoded";
    mainProgram = "opencoded";
    platforms = lib.platforms.linux;
  };
})
