#!/bin/sh
# One closing line from meson's log: how many tests passed, failed, were skipped.
passed=$(grep -c '"result": "OK"' "$1" || true)
skipped=$(grep -c '"result": "SKIP"' "$1" || true)
all=$(wc -l <"$1")
echo "$passed passed, $((all - passed - skipped)) failed, $skipped skipped"
