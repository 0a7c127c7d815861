#!/bin/sh
# usage: no_device.sh PROGRAM...     where there is no device, each program says so in one line and ends with 77 (skipped itself where there is one)
set -eu
for program in "$@"; do
    status=0
    said=$("$program" 2>&1) || status=$?
    [ "$status" = 77 ] || { [ "$status" = 0 ] && echo "there is a device" && exit 77; echo "$program: status $status: $said"; exit 1; }
    echo "$said" | grep -q -e "no CUDA device can be used: " -e "built without CUDA" || { echo "$program does not say why: $said"; exit 1; }
done
