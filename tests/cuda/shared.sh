#!/bin/sh
# usage: shared.sh PAC_EMU RUN_SH FIXTURES
# The memory of a device is divided among the ranks that have it, whatever number each of them sees it under: here every process sees one
# device, number 0.
set -u
pac=$1 run=$2 fixtures=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/run.yaml" <<YAML
model: {path: $fixtures/t5v10}
task: {name: tokens, train: $(dirname "$0")/../mpi/tokens.jsonl, max_source: 8, max_target: 2}
technique: {name: parallel, reduction: 4}
backend: cuda
YAML
limits() { # NAME
    "$run" 2 "$pac" profile "$dir/run.yaml" --quiet --output "$dir/profile.yaml" >"$dir/$1" 2>&1 || { cat "$dir/$1"; exit 1; }
    grep '^memory of rank' "$dir/$1"
}
limits one >"$dir/one.said" || exit 1
PAC_EMU_OWN=1
export PAC_EMU_OWN
limits own >"$dir/own.said" || exit 1
cat "$dir/one.said" "$dir/own.said"
[ "$(grep -c 'memory of emulated device, shared by 2 ranks (4096.0 MiB)' "$dir/one.said")" = 2 ] || { echo "one device is not shared"; exit 1; }
[ "$(grep -c 'memory of emulated device (8192.0 MiB)' "$dir/own.said")" = 2 ] || { echo "two devices are shared"; exit 1; }
