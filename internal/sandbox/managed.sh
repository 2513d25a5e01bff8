# The set-up step that every instance has: it makes ordinary work ordinary.
# Run by opencode-NAME-setup.service as the instance's user, in its sandbox.
# What the instance or its operator has set already stays.

# opencode runs commands in a login shell, and /etc/profile sets PATH anew there.
if [ ! -e ~/.bash_profile ] && [ ! -e ~/.bash_login ] && [ ! -e ~/.profile ]; then
	# shellcheck disable=SC2016 # expanded by the login shell
	echo 'if [ -n "${OPENCODED_PATH-}" ]; then PATH=$OPENCODED_PATH; fi' > ~/.profile
fi

# git refuses to work in a project that another user owns, and to commit without
# an identity. From HOME: a worktree whose repository is not visible would stop any git command in it.
if command -v git >/dev/null; then
	project=$PWD
	cd ~
	git config --global user.name >/dev/null || git config --global user.name opencode
	git config --global user.email >/dev/null || git config --global user.email "$USER@localhost"
	if ! git config --global --get-all safe.directory | grep -qxF -e "$project" -e '*'; then
		git config --global --add safe.directory "$project"
	fi
fi
