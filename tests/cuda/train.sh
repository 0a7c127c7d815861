#!/bin/sh
# usage: train.sh HOST_PAC DEVICE_PAC COMPARE RUN_SH FIXTURES BACKEND
# Whole runs on a device against the same runs on the processor: train on 1, 2 and 4 ranks (which share the device where there is one),
# with and without the cache, in unequal groups, every technique; then eval and predict with what was learned. The losses of all steps, what learned and
# the answers must agree. BACKEND: cuda, or split. Skipped (77) with the reason where DEVICE_PAC has no device.
set -u
host=$1 device=$2 compare=$3 run=$4 fixtures=$5 backend=$6
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
# ids below 50, for all models
tokens=$dir/data.jsonl
sed "s/,/,,/g; s/\([[,]\)5\([2-9][],]\)/\14\2/g; s/\([[,]\)6\([0-9][],]\)/\13\2/g; s/,,/,/g" "$(dirname "$0")/../mpi/tokens.jsonl" >"$tokens"
sed 's/,"labels":.*/}/' "$tokens" >"$dir/rows.jsonl"

config() { # MODEL TECHNIQUE-AS-YAML OPTIONS-AS-YAML
    cat >"$dir/run.yaml" <<YAML
model: {path: $fixtures/$1}
task: {name: tokens, train: $tokens, eval: $tokens, max_source: 24, max_target: 6}
technique: $2
train: {epochs: 3, batch: 8, microbatches: 3, warmup: 2, seed: 3, optimizer: sgd, lr: 0.05$3}
YAML
}

train() { # PAC BACKEND NAME RANKS GROUPS OPTION...
    pac=$1 on=$2 name=$3 ranks=$4 groups=$5
    shift 5
    case $(sed -n 's/^technique: {name: \([a-z]*\).*/\1/p' "$dir/run.yaml") in
    parallel) [ $# -gt 0 ] || set -- --set "cache.dir=$dir/$name.cache" ;;
    esac
    "$run" "$ranks" "$pac" train "$dir/run.yaml" --quiet --json --set "backend=$on" --set "output=$dir/$name" --set "system.groups=[$groups]" \
        "$@" >"$dir/$name.json" 2>"$dir/$name.log"
}

must() { # as train
    train "$@" || { echo "$3: train failed"; cat "$dir/$3.log"; exit 1; }
    ! grep 'not freed' "$dir/$3.log" || failed=1
}

metrics() { grep -o '"exact_match": *[0-9.e-]*' "$1"; } # before and after

against() { # NAME
    "$compare" "$dir/init" "$dir/reference" "$dir/$1" || { echo "$1: differs from the processor"; failed=1; }
    metrics "$dir/reference.json" >"$dir/expected"
    metrics "$dir/$1.json" | cmp - "$dir/expected" && [ -s "$dir/expected" ] || { echo "$1: other metrics"; failed=1; }
}

answers() { # PAC BACKEND FILE OPTION...
    pac=$1 on=$2 file=$3
    shift 3
    "$run" 2 "$pac" predict --model "$fixtures/$model" --adapters "$dir/reference/adapters" --input "$dir/rows.jsonl" --max-new 8 --quiet \
        --backend "$on" "$@" >"$dir/$file" 2>"$dir/$file.log" || { cat "$dir/$file.log"; failed=1; }
}

ids() { sed 's/.*"output_ids":\(\[[^]]*]\).*/\1/' "$1"; }

config t5v10 '{name: parallel, reduction: 4, gate: learned, merge: add, init: magnitude}' ''
if [ "$backend" = cuda ] && ! "$device" info --json 2>/dev/null | grep -q '"cuda":"[^"]'; then
    "$device" info 2>&1 | sed -n 's/^CUDA */SKIP /p'
    exit 77
fi

# model, technique, further options of train, then the groups to try on the device
try() {
    model=$1
    config "$1" "$2" "$3"
    shift 3
    rm -rf "$dir/init" "$dir/reference"
    must "$host" ref init 1 1 --set train.lr=0
    must "$host" ref reference 1 1
    for groups in "$@"; do
        rm -rf "$dir/run"
        must "$device" "$backend" run $(($(echo "$groups" | tr ',' '+'))) "$groups"
        echo "$model on $groups:"
        against run
    done
    for beams in 1 3; do
        answers "$host" ref expected.jsonl --beams $beams
        answers "$device" "$backend" got.jsonl --beams $beams
        ids "$dir/expected.jsonl" >"$dir/expected"
        ids "$dir/got.jsonl" | diff "$dir/expected" - || { echo "$model: other answers with $beams beams"; failed=1; }
    done
}

try t5v10 '{name: parallel, reduction: 4, gate: learned, merge: add, init: magnitude}' '' 1 2 1,1 2,2 1,1,1,1
must "$device" "$backend" nocache 4 2,2 --set cache=none
against nocache
# unequal groups, fewer micro-batches than stages, nothing sent ahead
must "$device" "$backend" uneven 4 2,1,1 --set "cache.dir=$dir/uneven.cache"
against uneven
must "$device" "$backend" whole 3 1,2 --set cache=none --set train.microbatches=1
against whole
must "$device" "$backend" late 3 1,1,1 --set cache=none --set train.microbatches=2 --set train.overlap=false
against late
try t5v11 '{name: parallel, reduction: 2, gate: none, layers: [2], merge: gated, init: fisher}' ', dropout: 0.1' 1,1
try t5v11 '{name: full}' ', recompute: true' 1 1,1
try tiny/bart '{name: adapters, width: 4}' '' 2
try t5v10 '{name: lora, rank: 4, alpha: 8}' ', dropout: 0.1' 1,1
exit $failed
