#!/bin/sh
# usage: manpage.sh ROOT PAC     the man page says what the program says
set -eu
made=$(mktemp)
trap 'rm -f "$made"' EXIT
"$1/scripts/manpage.sh" "$2" >"$made"
if ! diff -u "$1/docs/pac.1" "$made"; then
    echo "docs/pac.1 is not what the program says: run scripts/manpage.sh build/pac > docs/pac.1" >&2
    exit 1
fi
