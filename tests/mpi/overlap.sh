#!/bin/sh
# usage: overlap.sh PAC RUN_SH FIXTURES
# The same runs with train.overlap on and off, with gradients in several buckets: adapters and losses are the same to the last bit.
set -eu
pac=$1 run=$2 fixtures=$3
here=$(dirname "$0")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/run.yaml" <<YAML
model: {path: $fixtures/t5v10}
task: {name: tokens, train: $here/tokens.jsonl, max_source: 24, max_target: 6}
technique: {name: parallel, reduction: 4, init: magnitude}
train: {epochs: 2, batch: 8, microbatches: 4, lr: 3.0e-3, seed: 3, bucket: 4096 B}
YAML

# train NAME GROUPS OPTION...
train() {
    name=$1 groups=$2
    shift 2
    "$run" $(($(echo "$groups" | tr ',' '+'))) "$pac" train "$dir/run.yaml" --quiet --json --set "output=$dir/$name" --set "cache.dir=$dir/$name/cache" \
        --set "system.groups=[$groups]" "$@" >"$dir/$name.json"
}

# losses and norms of all steps
steps() { grep '"event":"step"' "$dir/$1/metrics.jsonl" | sed 's/"\(seconds\|cpu\|time\|allocations\)": *[^,}]*//g'; }

failed=0
# both TITLE GROUPS OPTION...
both() {
    title=$1 groups=$2
    shift 2
    train on "$groups" --set train.overlap=true "$@"
    train off "$groups" --set train.overlap=false "$@"
    cmp "$dir/on/adapters/adapters.safetensors" "$dir/off/adapters/adapters.safetensors" || { echo "$title: other adapters"; failed=1; }
    steps on >"$dir/on.steps"
    steps off >"$dir/off.steps"
    [ -s "$dir/on.steps" ] || { echo "$title: no steps"; failed=1; }
    cmp "$dir/on.steps" "$dir/off.steps" || { echo "$title: other losses"; failed=1; }
    rm -r "$dir/on" "$dir/off"
}

both 'data parallel' 3
both 'pipeline' 1,1,1
PAC_NODE_SIZE=1 # a thread looks after messages
export PAC_NODE_SIZE
both 'hybrid' 2,2
both 'full tuning' 2,1 --set 'technique={name: full}' --set train.optimizer=sgd --set train.lr=0.05
exit $failed
