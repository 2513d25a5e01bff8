package escape

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// identity is what git wants to know before it commits.
const identity = `export GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x; git init -q -b main; `

// registry is a server of node's own that hands out one package, as a registry of packages does.
const registry = `
mkdir one server use && cd one
echo '{ "name": "one", "version": "1.0.0", "main": "main.js" }' >package.json
echo 'module.exports = 1' >main.js
npm pack --silent --pack-destination ../server >/dev/null
cd ../server
cat >server.js <<'JS'
const http = require("http"), fs = require("fs")
const server = http.createServer((request, response) => {
	if (request.url.endsWith(".tgz")) return response.end(fs.readFileSync("one-1.0.0.tgz"))
	const dist = { tarball: "http://127.0.0.1:" + server.address().port + "/one.tgz" }
	response.end(JSON.stringify({ name: "one", "dist-tags": { latest: "1.0.0" }, versions: { "1.0.0": { name: "one", version: "1.0.0", main: "main.js", dist } } }))
})
server.listen(0, "127.0.0.1", () => fs.writeFileSync("port.new", String(server.address().port)) || fs.renameSync("port.new", "port"))
JS
node server.js &
trap "kill $!" EXIT
for i in $(seq 500); do [ -e port ] && break; sleep 0.02; done
cd ../use
npm install --silent --no-audit --no-fund --registry "http://127.0.0.1:$(cat ../server/port)" one
node -e 'process.exit(require("one") === 1 ? 0 : 1)'
`

// workProbes are an ordinary day: all of it works with the sandbox as it is by default.
var workProbes = []probe{
	work("git", "git: init, commit, branch, merge, stash, tag, log, gc", identity+`
		echo 1 >a; git add a; git commit -qm first; git switch -qc topic; echo 2 >b; git add b; git commit -qm second; git switch -q main
		echo 3 >c; git add c; git commit -qm third; git merge -qm merged topic; echo 4 >a; git stash -q; git stash pop -q; git tag v1
		git gc -q; git diff --stat >/dev/null; git log --oneline | wc -l | grep -qx 4`).with("command git"),
	work("git-clone", "git: clone, fetch and push between local repositories", identity+`
		git commit -qm first --allow-empty; git clone -q --bare . remote.git; git clone -q remote.git copy
		cd copy; git commit -qm second --allow-empty; git push -q origin main; git -C .. fetch -q ../remote.git 2>/dev/null || git -C .. fetch -q remote.git`).with("command git"),
	work("git-worktree", "git: worktrees, hooks of a repository of its own, submodule status, blame", identity+`
		printf '#!/bin/sh\ntouch ran\n' >.git/hooks/pre-commit; chmod +x .git/hooks/pre-commit
		echo 1 >a; git add a; git commit -qm first; [ -e ran ]; git worktree add -q tree; git worktree remove tree; git submodule status; git blame a >/dev/null`).with("command git"),
	work("git-project", "git: commits in the project itself, whose hooks are protected", `
		cd "$WITHIN"; git config user.name x; git config user.email x; git config --global --replace-all safe.directory "$WITHIN"
		echo "$RANDOM" >file; git commit -qm work file; git status --short >/dev/null`).with("command git"),
	work("node", "node: reads, writes, runs a program, starts a worker", `node -e '
		const { Worker } = require("worker_threads"), fs = require("fs")
		fs.writeFileSync("a", require("child_process").execSync("echo 1"))
		new Worker("require(\"worker_threads\").parentPort.postMessage(1)", { eval: true }).on("message", m => process.exit(m - fs.readFileSync("a")))'`).with("command node"),
	work("npm", "npm: packs a package, and installs it from a registry on loopback", registry).with("command node npm"),
	work("python", "python: threads, subprocesses, sqlite, sockets", "python3 - <<'PY'\n"+`import sqlite3, subprocess, threading, socket
t = threading.Thread(target=lambda: subprocess.check_call(["true"])); t.start(); t.join()
sqlite3.connect("db").execute("create table t (x)")
a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"
PY`).with("command python3"),
	work("python-processes", "python: a pool of processes, which needs semaphores in /dev/shm", "cat >pool.py <<'PY'\n"+`import multiprocessing
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
PY
python3 pool.py`).with("command python3"),
	work("python-venv", "python: a virtual environment", `python3 -m venv --without-pip env; . env/bin/activate; python -c 'import sys; assert sys.prefix != sys.base_prefix'`).with("command python3"),
	work("python-pytest", "python: tests run by pytest in a virtual environment", `python3 -m venv --without-pip --system-site-packages env; . env/bin/activate
printf 'def test_works(tmp_path):\n\t(tmp_path / "f").write_text("x")\n' >test_it.py; python -m pytest -q test_it.py`).with("command pytest"),
	work("python-pty", "python: a program on a terminal of its own", `python3 -c 'import os, pty; raise SystemExit(os.waitstatus_to_exitcode(pty.spawn(["test", "-t", "0"])))'`).with("command python3"),
	work("go", "go: builds and runs a program", `
		export PATH="$PATH:/usr/local/go/bin" GOTOOLCHAIN=local GOFLAGS=-mod=mod GOPROXY=off GOTELEMETRY=off; printf 'module m\n' >go.mod
		printf 'package main\nfunc main() { println(1) }\n' >main.go; go build -gcflags=all=-N -o m . && ./m`).with("go"),
	work("cc", "cc: compiles, links and runs", `printf 'int main(void) { return 0; }\n' >m.c; cc -o m m.c; ./m`).with("command cc"),
	work("make", "make: in parallel, with a shell", "printf 'all: a b\\na b:\\n\\techo 1 > $@\\n' >Makefile; make -sj2; cat a b").with("command make"),
	work("ripgrep", "rg: searches with all cores", `seq 10000 >a; rg -q 7777 a; rg --files | grep -qx a`).with("command rg"),
	work("grep", "grep and find: search a tree", `mkdir -p a/b; echo needle >a/b/c; grep -rl needle . | grep -qx ./a/b/c; find . -name c -newermt 2001-01-01 | grep -q c`),
	work("pty", "script: a terminal session", `script -qec 'test -t 0 && tty' /dev/null | grep -q /dev/pts/`).with("command script"),
	work("mcp", "a local MCP server over stdio answers", `
		cat >server <<'PL'
$| = 1;
while (<STDIN>) { /"id": *(\d+)/ and print qq({"jsonrpc":"2.0","id":$1,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"local","version":"1"}}}\n) }
PL
		echo '{"jsonrpc":"2.0","id":7,"method":"initialize","params":{}}' | perl server | grep -q '"id":7'`).with("command perl"),
	work("unix-socket", "a server on a Unix socket in the project", `
		perl -MIO::Socket::UNIX -e '$l = IO::Socket::UNIX->new(Local => "socket", Listen => 1) or die "$!"; $c = IO::Socket::UNIX->new(Peer => "socket") or die "$!"; $s = $l->accept; print $s "x\n"; close $s; exit <$c> ne "x\n"'`).with("command perl"),
	work("large-file", "writes and reads 100 MB", `head -c 100000000 /dev/zero >large; cksum large | grep -q ' 100000000 '`),
	work("sparse-file", "makes a sparse file of 10 GB", `truncate -s 10G sparse; [ "$(stat -c %s sparse)" = 10737418240 ]; [ "$(du -k sparse | cut -f 1)" -lt 1000 ]`),
	work("fallocate", "reserves room on the disk", `fallocate -l 1M a; [ "$(stat -c %s a)" = 1048576 ]`).with("command fallocate"),
	{name: "watching", tries: "watches a directory for changes (inotify)", call: watched, want: succeeded, control: inside, limit: 10 * time.Second},
	{name: "memory-map", tries: "maps a file into memory, shared and private", call: scratch(false, mappedFile), want: succeeded, control: inside, limit: 10 * time.Second},
	{name: "attributes", tries: "sets extended attributes of files", call: func() error { return attributes(".") }, want: succeeded, control: inside, limit: 10 * time.Second, needs: "xattr"},
	work("pipes", "pipes through many programs", `seq 1000 | sort -r | head -n 500 | tail -n 1 | tr -d '\n' | wc -c | grep -qx 3`),
	work("process-substitution", "process substitution and here documents", `diff <(echo 1) <(cat <<<1)`),
	work("background", "background jobs, wait and their exit codes", `(exit 3) & wait $! || [ $? = 3 ]; sleep 60 & kill %1; wait %1 || [ $? = 143 ]`),
	work("signals", "traps and signals among its own processes", `trap 'echo got >a' USR1; kill -USR1 $$; grep -qx got a; timeout -s INT 0.05 sleep 60 || [ $? = 124 ]`),
	work("job-groups", "a session of its own, stopped and continued", `setsid sleep 60 & p=$!; kill -STOP $p; kill -CONT $p; kill $p; nohup true >/dev/null 2>&1`),
	work("many-processes", "500 short processes", `for i in $(seq 500); do /bin/true; done`),
	work("parallel-processes", "100 processes at the same time, and xargs -P", `for i in $(seq 100); do sleep 0.2 & done; wait; seq 20 | xargs -P 4 -I{} true {}`),
	work("temporary", "mktemp in /tmp, /var/tmp and the project", `for d in /tmp /var/tmp .; do f=$(mktemp -p $d); echo 1 >$f; rm $f; done; rmdir "$(mktemp -d)"`),
	work("locale", "sorts and matches UTF-8", `[ "$(printf 'ä' | wc -m)" = 1 ]; locale >/dev/null; echo ÄÖ | grep -qx '..'`),
	work("time-zone", "time zones and dates", `[ "$(TZ=UTC0 date -d @0 +%Y)" = 1970 ]; TZ=Europe/Berlin date >/dev/null; date -R >/dev/null`),
	work("limits", "reads and lowers its limits", `ulimit -a >/dev/null; ulimit -n 256; ulimit -c 0; [ "$(ulimit -n)" = 256 ]`),
	work("ps", "ps, pgrep and top show its processes", `sleep 60 & ps -ef | grep -q 'slee[p] 60'; pgrep -x sleep >/dev/null; top -bn1 >/dev/null; kill %1`).with("command ps pgrep top"),
	work("system-facts", "free, uptime, nproc, lscpu, uname, id, df, du, stat", `for c in free uptime nproc lscpu 'uname -a' id 'df .' 'du -s .' 'stat .' hostname whoami; do $c >/dev/null; done`).with("command free uptime lscpu hostname"),
	work("curl", "curl to a server on loopback, over IPv4 and IPv6", `curl -sS http://127.0.0.1:9100/ >/dev/null; curl -sS 'http://[::1]:9100/' >/dev/null; curl -sS http://localhost:9100/ >/dev/null`).with("command curl"),
	work("resolve", "finds the name of its own account, and the configuration of the resolver", `getent passwd "$(id -un)" >/dev/null; cat /etc/resolv.conf >/dev/null`).with("command getent"),
	work("ssh-keygen", "ssh-keygen makes and reads a key", `ssh-keygen -qt ed25519 -N '' -f key; ssh-keygen -lf key.pub >/dev/null; ssh-keygen -Y sign -qf key -n file key.pub 2>/dev/null`).with("command ssh-keygen"),
	work("openssl", "openssl makes a key, a certificate and random bytes", `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -out c -subj /CN=x -days 1 2>/dev/null; openssl x509 -in c -noout; openssl rand -hex 8 >/dev/null`).with("command openssl"),
	work("tar", "tar and gzip pack and unpack", `mkdir a; seq 1000 >a/b; tar czf a.tgz a; mv a c; tar xzf a.tgz; cmp a/b c/b; tar tzf a.tgz | grep -qx a/b`),
	work("zstd", "zstd packs and unpacks", `seq 1000 >a; zstd -q a; rm a; zstd -dq a.zst; [ "$(wc -l <a)" = 1000 ]`).with("command zstd"),
	work("xz", "xz and bzip2 pack and unpack", `seq 1000 >a; xz a; unxz a.xz; bzip2 a; bunzip2 a.bz2; [ "$(wc -l <a)" = 1000 ]`).with("command xz bzip2"),
	work("diff-patch", "diff and patch", `seq 9 >a; sed s/5/five/ a >b; diff -u a b >p || true; patch -s a p; cmp a b`).with("command patch"),
	work("text-tools", "sed, awk, perl, sort, uniq", `[ "$(seq 10 | sed -n 2,4p | awk '{ s += $1 } END { print s }')" = 9 ]; perl -e 'exit(1 + 1 == 2 ? 0 : 1)'; printf 'b\na\nb\n' | sort | uniq -c | sort -rn | head -n 1 | grep -q 'b$'; echo x >x; sed -i s/x/y/ x; grep -qx y x`).with("command perl"),
	work("copy", "cp -a, mv, install, touch -d; dates are kept", `mkdir a; touch -d 2001-02-03 a/b; cp -a a c; [ "$(stat -c %y c/b | cut -c 1-4)" = 2001 ]; mv c d; cp -r --preserve=mode,timestamps d e; install -m 755 a/b f`),
	work("flock", "flock keeps two programs apart", `flock lock true; (flock 9; ! flock -n lock true) 9>lock`).with("command flock"),
	work("links", "hard and symbolic links within the project", `echo 1 >a; ln a b; ln -s a c; [ a -ef b ]; [ "$(readlink c)" = a ]; cat c >/dev/null; ln -sfn b c; [ "$(stat -c %h a)" = 2 ]`),
	work("modes", "chmod, umask, scripts made executable", `printf '#!/bin/sh\nexit 0\n' >s; chmod 755 s; ./s; chmod 600 s; [ "$(stat -c %a s)" = 600 ]; umask 077; touch t; [ "$(stat -c %a t)" = 600 ]`),
	work("sqlite-lock", "locks of byte ranges, as databases use them", `perl -MFcntl=:flock,:DEFAULT -e 'open(F, "+>", "db"); my $l = pack("s s l! l! i", F_WRLCK, 0, 0, 10, 0); fcntl(F, F_SETLK, $l) or die "$!"'`).with("command perl"),
	work("home-caches", "writes caches and settings into HOME", `mkdir -p ~/.cache/tool ~/.local/bin ~/.config/tool; printf '#!/bin/sh\nexit 0\n' >~/.local/bin/tool; chmod +x ~/.local/bin/tool; ~/.local/bin/tool; rm -r ~/.cache/tool ~/.local/bin/tool ~/.config/tool`),
	work("json", "a server and a client on a port of loopback that it chose", `
		perl -MIO::Socket::INET -e '$l = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1) or die "$!"; $c = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $l->sockport) or die "$!"; $s = $l->accept; print $s "{}\n"; close $s; exit <$c> ne "{}\n"'`).with("command perl"),
	work("login-shell", "a login shell, with the PATH of the instance", `[ "$(bash -lc 'echo $PATH')" = "$PATH" ]; command -v env >/dev/null; bash -ic true 2>/dev/null`),
	work("head-tail", "head, tail -f, tee, split", `seq 9 | tee a | head -n 1 >/dev/null; (timeout 0.2 tail -f a || true) | grep -qx 9; split -l 3 a; [ "$(ls x* | wc -l)" = 3 ]`),
	work("nice", "nice, which asks for less", `nice -n 5 true 2>/dev/null; nohup true >/dev/null 2>&1; timeout 5 true`),
}

// watched makes a file in a directory that it watches, and waits for the news.
func watched() error {
	return scratch(true, func(dir string) error {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE); err != nil {
			return err
		}
		if err := os.WriteFile(dir+"/new", nil, 0o600); err != nil {
			return err
		}
		_, err = unix.Read(fd, make([]byte, 4096))
		return err
	})()
}

func mappedFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, kind := range []int{unix.MAP_SHARED, unix.MAP_PRIVATE} {
		m, err := unix.Mmap(int(f.Fd()), 0, 4, unix.PROT_READ|unix.PROT_WRITE, kind)
		if err != nil {
			return err
		}
		m[0]++
		if err := unix.Munmap(m); err != nil {
			return err
		}
	}
	return nil
}
