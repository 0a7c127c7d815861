#!/bin/sh
# usage: where_device.sh PAC SCRIPT ARGUMENT...     runs `SCRIPT PAC ARGUMENT...`, or ends with 77 (skipped) and the reason where PAC sees no device
pac=$1 script=$2
shift 2
"$pac" info --json 2>/dev/null | grep -q '"cuda":"[^"]' || { "$pac" info 2>&1 | sed -n 's/^CUDA */SKIP /p'; exit 77; }
exec sh "$script" "$pac" "$@"
