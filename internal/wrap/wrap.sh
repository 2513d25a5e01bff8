#!/bin/sh
# @NAME@: opencode with its configuration baked in. Written by `opencoded wrap`; the directory above bin/ can stand
# anywhere.
set -eu

name='@NAME@'
build='@BUILD@'
locked=@LOCKED@
content=@CONTENT@
opencode=@OPENCODE@

fail() { printf '%s: %s\n' "$name" "$*" >&2; exit 1; }

self=$(readlink -f -- "$0")
root=${self%/bin/*}
baked=$root/share/$name
# opencode puts these paths into the text of its configuration as they are.
case $root in *[\"\\]*) fail "cannot run from $root: the path has a quote or a backslash in it (move it)" ;; esac

case $opencode in
'') opencode=$(command -v opencode) || fail 'there is no opencode in PATH (install it, or wrap with --embed)' ;;
/*) ;;
*) opencode=$root/$opencode ;;
esac
[ -x "$opencode" ] || fail "there is no program $opencode"

# opencode looks for its configuration below XDG_CONFIG_HOME, and writes there. It gets a place of its own, in which
# everything of the user's but opencode's is linked: whatever the agents run finds its own configuration as always.
user=${OPENCODED_USER_CONFIG:-${XDG_CONFIG_HOME:-$HOME/.config}}
farm=${XDG_CACHE_HOME:-$HOME/.cache}/opencoded/$name-$build
link() { # TARGET LINK
    [ "$(readlink -- "$2" 2>/dev/null)" = "$1" ] || ln -sfn -- "$1" "$2"
}
mkdir -p -- "$farm/opencode"
for entry in "$user"/* "$user"/.[!.]*; do
    case ${entry##*/} in opencode | '*' | '.[!.]*') continue ;; esac
    [ -e "$farm/${entry##*/}" ] && [ ! -h "$farm/${entry##*/}" ] || link "$entry" "$farm/${entry##*/}"
done
if [ "$(readlink -- "$farm/opencode/opencode.json" 2>/dev/null)" != "$baked/opencode.json" ]; then
    chmod u+w "$farm/opencode"
    for entry in "$baked"/* "$baked/.gitignore"; do link "$entry" "$farm/opencode/${entry##*/}"; done
    # Where it cannot write, opencode does not wait for a package registry at its start.
    chmod a-w "$farm/opencode"
fi
export OPENCODED_USER_CONFIG="$user" XDG_CONFIG_HOME="$farm" OPENCODED_WRAP="$baked"
export OPENCODE_DISABLE_AUTOUPDATE=1
if [ -e "$baked/tui.json" ]; then export OPENCODE_TUI_CONFIG="$baked/tui.json"; else unset OPENCODE_TUI_CONFIG; fi
unset OPENCODE_CONFIG OPENCODE_CONFIG_DIR OPENCODE_CONFIG_CONTENT

if [ "$locked" = yes ]; then
    # Nothing that a project brings counts: not its settings, agents or plugins. Its instructions do, by path.
    unset OPENCODE_PERMISSION
    export OPENCODE_DISABLE_PROJECT_CONFIG=1
    project=$PWD
    for argument; do if [ -d "$argument" ]; then project=$(cd -- "$argument" && pwd); break; fi; done
    project=$(git -C "$project" rev-parse --show-toplevel 2>/dev/null) || project=${project:-$PWD}
    case $project in *[\"\\]*) project=/nonexistent; printf '%s: the instructions of this project are left out: its path has a quote or a backslash in it\n' "$name" >&2 ;; esac
    export OPENCODED_PROJECT="$project"
    # The last word, also over what stands in ~/.opencode.
    if [ "$content" = yes ]; then OPENCODE_CONFIG_CONTENT=$(cat "$baked/opencode.json"); export OPENCODE_CONFIG_CONTENT; fi
fi
exec "$opencode" "$@"
