# openFirewall: another host reaches the server that asks for it, and no other.
{ pkgs, machine, healthy, ... }: {
  nodes = {
    machine = {
      imports = [ machine ];
      services.opencode.instances = {
        open = { directory = "/srv/open"; listen = { address = "0.0.0.0"; port = 8721; }; openFirewall = true; };
        closed = { directory = "/srv/closed"; listen = { address = "0.0.0.0"; port = 8722; }; };
      };
    };
    client.environment.systemPackages = [ pkgs.curl ];
  };
  testScript = ''
    start_all()
    ${healthy "open"}
    ${healthy "closed"}
    client.wait_for_unit("multi-user.target")
    # Without the password the answer is 401: it is an answer.
    client.succeed("test $(curl -s -m 10 -o /dev/null -w '%{http_code}' http://machine:8721/global/health) = 401")
    client.fail("curl -s -m 5 http://machine:8722/global/health")
  '';
}
