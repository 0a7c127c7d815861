#!/bin/sh
# usage: cache_reuse.sh RUN.SH PROGRAM   keeps a cache in one run and reads it in runs of other sizes.
set -e
run=$1 program=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# one node: its copy serves any number of ranks
"$run" 2 "$program" keep "$dir/one"
for ranks in 1 2 3; do
    "$run" "$ranks" "$program" reuse "$dir/one"
done
# two nodes: only a world of the same shape
PAC_NODE_SIZE=1 "$run" 2 "$program" keep "$dir/two"
PAC_NODE_SIZE=1 "$run" 2 "$program" reuse "$dir/two"
for ranks in 1 2 3; do
    PAC_TEST_REFUSED=1 "$run" "$ranks" "$program" reuse "$dir/two"
done
# three nodes instead of two
PAC_NODE_SIZE=2 "$run" 3 "$program" keep "$dir/three"
PAC_TEST_REFUSED=1 PAC_NODE_SIZE=1 "$run" 3 "$program" reuse "$dir/three"
PAC_NODE_SIZE=2 "$run" 3 "$program" reuse "$dir/three"
