# The set-up step that every instance has: it makes ordinary work ordinary.
# Run by opencode-NAME-setup.service as the instance's user, in its sandbox.

# git refuses to work in a project that another user owns, and to commit without
# an identity. What the instance or its operator has set already stays.
if command -v git >/dev/null; then
	git config --global user.name >/dev/null || git config --global user.name "opencode"
	git config --global user.email >/dev/null || git config --global user.email "$USER@localhost"
	if ! git config --global --get-all safe.directory | grep -qxF -e "$PWD" -e '*'; then
		git config --global --add safe.directory "$PWD"
	fi
fi
