#!/bin/sh
# usage: layouts.sh PAC COMPARE RUN_SH FIXTURES DATA [OPTION...]
# Trains the tiny golden model on one rank, then under every plan of the issue with equal and unequal shares, and compares step losses
# and final adapters (compare_runs.c). OPTIONs (--set ...) are given to every run.
set -eu
pac=$1 compare=$2 run=$3 fixtures=$4 data=$5
shift 5
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

cat >"$dir/run.yaml" <<YAML
model: {path: $fixtures}
task: {name: tokens, train: $data, max_source: 24, max_target: 6}
technique: {name: parallel, reduction: 4, gate: learned, layers: all, merge: add, init: magnitude}
train: {epochs: 3, batch: 8, microbatches: 3, lr: 3.0e-3, warmup: 2, seed: 3}
YAML

# train NAME RANKS OPTION...
train() {
    name=$1 ranks=$2
    shift 2
    if ! "$run" "$ranks" "$pac" train "$dir/run.yaml" --quiet --json --set "output=$dir/$name" --set "cache.dir=$dir/$name/cache" "$@" \
        >"$dir/$name.json" 2>"$dir/$name.log"; then
        echo "$name: train failed"
        cat "$dir/$name.log"
        exit 1
    fi
}

train init 1 --set system.groups=[1] "$@" --set train.lr=0
train reference 1 --set system.groups=[1] "$@"

failed=0
# check NAME: compares with the reference, measured by the distance that the adapters moved
check() {
    "$compare" "$dir/init" "$dir/reference" "$dir/$1" || { echo "$1: differs from one rank"; failed=1; }
}

for groups in 2 1,1 3 2,1 1,2 1,1,1 4 2,2 3,1 2,1,1 1,1,1,1; do
    ranks=$(($(echo "$groups" | tr ',' '+')))
    train "g$groups" "$ranks" --set "system.groups=[$groups]" "$@"
    check "g$groups"
done

# unequal shares, cuts and orders of ranks
for plan in "$(dirname "$0")"/plans/*.yaml; do
    name=$(basename "$plan" .yaml)
    ranks=$(sed -n 's/^world: *\([0-9]*\).*/\1/p' "$plan")
    train "$name" "$ranks" --plan "$plan" "$@"
    check "$name"
done

train nocache 1 --set system.groups=[1] "$@" --set cache=none
check nocache
train nocache22 4 --set system.groups=[2,2] "$@" --set cache=none
check nocache22
train shard22 4 --set system.groups=[2,2] "$@" --set cache.redistribute=shard
check shard22
train shard1 1 --set system.groups=[1] "$@" --set cache.redistribute=shard
check shard1
PAC_NODE_SIZE=1
export PAC_NODE_SIZE
train nodes22 4 --set system.groups=[2,2] "$@"
check nodes22
train nodes21shard 3 --set system.groups=[2,1] "$@" --set cache.redistribute=shard
check nodes21shard
exit $failed
