#!/bin/sh
# Prints what happened between two revisions of the repository in the working
# directory: collect.sh [FROM [TO]]. Reads only.
set -eu

to=${2:-HEAD}
# Without a tag everything is new: then there is no lower end.
from=${1:-$(git describe --tags --abbrev=0 "$to" 2>/dev/null || true)}
range=${from:+$from..}$to

echo "Range: $range"
echo
echo "Commits, oldest first:"
git log --no-merges --reverse --date=short --format='%h %ad %s' "$range"
echo
echo "Files that changed most (added and deleted lines):"
git log --no-merges --numstat --format= "$range" |
	awk 'NF == 3 && $1 != "-" { n[$3] += $1 + $2 } END { for (f in n) print n[f], f }' |
	sort -rn | head -n 15
