package scenario

import (
	"strings"
	"testing"

	"github.com/opencoded/opencoded/tests/operator"
)

const protectedProject = `
version = 1
[defaults]
config_lock = false
[instances.alpha]
directory = "/srv/alpha"
listen.port = 8701
sandbox.protect = ["ci/deploy.sh"]
[instances.tree]
directory = "/srv/tree"
listen.port = 8702
sandbox.read_write_paths = ["/srv/main/.git"]
[instances.free]
directory = "/srv/free"
listen.port = 8703
sandbox.protect = false
`

// protectedFiles: what others run or obey without asking cannot be changed by the
// agent, nor moved away with the directory that it is in; what is not there is not
// made, and all other work with git goes on.
func protectedFiles(t *testing.T) {
	operator.Sh(t, `
export GIT_CONFIG_COUNT=4 GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=x GIT_CONFIG_KEY_1=user.email GIT_CONFIG_VALUE_1=x \
	GIT_CONFIG_KEY_2=init.defaultBranch GIT_CONFIG_VALUE_2=main GIT_CONFIG_KEY_3=safe.directory GIT_CONFIG_VALUE_3='*'
for p in alpha free main; do
	git init -q /srv/$p
	mkdir /srv/$p/ci
	echo original | tee /srv/$p/.envrc /srv/$p/ci/deploy.sh >/srv/$p/file
	git -C /srv/$p add .
	git -C /srv/$p commit -qm first
done
git -C /srv/main worktree add -q /srv/tree
git init -q --bare /srv/alpha/remote.git
chmod -R a+rwX /srv/alpha /srv/free /srv/main /srv/tree`)
	operator.Apply(t, protectedProject)
	operator.NothingToDo(t)
	alpha, tree, free := enter(t, "alpha"), enter(t, "tree"), enter(t, "free")

	for _, write := range []string{"echo x > .git/hooks/pre-commit", "echo x > .envrc", "echo x >> ci/deploy.sh", "chmod 777 .envrc", "ln -sf /tmp/x .git/hooks/post-checkout"} {
		alpha.refused(t, write, "Read-only file system")
	}
	for _, move := range []string{"mv .git .git2", "mv .git/hooks .git/h", "mv .envrc e", "mv ci c", "rm -f .envrc", "rm -rf ci", "mv file .envrc"} {
		alpha.refused(t, move, "busy")
	}
	operator.Same(t, "what was not there", operator.Sh(t, "ls -A /srv/alpha | grep -e vscode -e idea || true"), "")
	free.must(t, "echo x > .git/hooks/pre-commit && echo x > .envrc && mv .git .git2 && mv .git2 .git")

	// A worktree is a file .git that names the repository, whose hooks are meant.
	tree.refused(t, "echo x > .git", "Read-only file system")
	tree.refused(t, "mv .git x", "busy")
	tree.refused(t, "echo x > /srv/main/.git/hooks/pre-commit", "Read-only file system")
	tree.refused(t, "ls /srv/main/file", "No such file or directory")
	tree.must(t, "echo 2 > file && git commit -qam second && git log --oneline | wc -l")

	// An ordinary day with git.
	alpha.must(t, `
set -e
git config --global --add safe.directory "$PWD/remote.git"
echo 2 > file; git commit -qam second
git checkout -qb topic; echo 3 > other; git add other; git commit -qm third
git branch -m renamed; git checkout -q main; echo 4 > file; git commit -qam fourth
git rebase -q main renamed; git checkout -q main; git merge -q renamed
git remote add origin "$PWD/remote.git"; git push -qu origin main
git stash list; echo 5 > file; git stash -q; git stash pop -q; git checkout -q file
git worktree add -q .trees/one; git -C .trees/one status --short; git worktree remove .trees/one
git tag v1; git gc -q; git config core.abbrev 12; git status --short | cat`)
	operator.Same(t, "commits of the remote", operator.Sh(t, "git -c safe.directory=* -C /srv/alpha/remote.git log --oneline main | wc -l"), "4")

	// What came later is protected from the next start on, and a link leads nowhere.
	alpha.must(t, "mkdir .idea && ln -s /etc .vscode")
	r := operator.Command(t, "opencoded", "doctor")
	operator.Same(t, "exit code of doctor", r.Code, 3)
	operator.Contains(t, "doctor", r.Stdout, "/srv/alpha/.idea has appeared since the server started: the agent can write it until the next start (look at it, then: systemctl restart opencode-alpha.service)")
	operator.Lacks(t, "doctor", r.Stdout, "/srv/alpha/.vscode")
	operator.Must(t, "systemctl", "restart", "opencode-alpha")
	operator.Eventually(t, "alpha is healthy again", func() bool { return operator.Status(t, "alpha").State == "healthy" })
	enter(t, "alpha").refused(t, "touch .idea/x", "Read-only file system")
	operator.Lacks(t, "doctor after a restart", operator.Command(t, "opencoded", "doctor").Stdout, "has appeared")
	operator.NothingToDo(t)
	withoutRepository(t)
}

// withoutRepository: a worktree whose repository the instance does not see is of no
// use, and that is told.
func withoutRepository(t *testing.T) {
	r := operator.Apply(t, strings.Replace(protectedProject, `["/srv/main/.git"]`, "[]", 1))
	operator.Contains(t, "apply", r.Stderr, "/srv/tree belongs to the repository /srv/main/.git, which the instance does not see: git will not work in it")
	tree := enter(t, "tree")
	tree.refused(t, "git status", "not a git repository")
	tree.refused(t, "echo x > .git", "Read-only file system")
}
