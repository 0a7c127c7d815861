#!/bin/sh
# An estimate of a run's own plan is what the ledger of that run measured, rank by rank; what cannot be estimated ends with 2.
set -u
. "$(dirname "$0")/lib.sh"

root=$(dirname "$fixtures")/../..
head -n 240 "$root/data/demo/train.jsonl" >"$dir/train.jsonl"
head -n 40 "$root/data/demo/dev.jsonl" >"$dir/dev.jsonl"
cat >"$dir/demo.yaml" <<YAML
model: {path: $root/data/demo/model}
task: {name: seq2seq, train: $dir/train.jsonl, eval: $dir/dev.jsonl, max_source: 48, max_target: 4}
train: {epochs: 2, batch: 16}
cache: {dir: $dir/cache}
output: $dir/out
YAML
demo=$dir/demo.yaml

groups="[1"
for i in $(seq 2 "$ranks"); do groups="$groups, 1"; done
groups="$groups]"

# The largest `ledger` of a rank in a phase: metrics.jsonl has a line for each time that a phase ended.
measured() {
    grep '"event": *"memory"' "$dir/out/metrics.jsonl" | grep "\"rank\": *$1[,}]" | grep "\"phase\": *\"$2\"" |
        sed 's/.*"ledger": *\([0-9]*\).*/\1/' | sort -n | tail -n 1
}

# Total of a device's run until the cached phase; of that phase.
of_device() {
    sed 's/{"rank":/\n&/g' "$dir/stdout" | grep "^{\"rank\":$1," | sed 's/.*"phase":{[^}]*"total":\([0-9]*\)}.*/\1/'
}
of_cached() {
    sed 's/.*"cached":{[^}]*}[^}]*},"bytes":{[^}]*"total":\([0-9]*\)}.*/\1/' "$dir/stdout"
}

# near WHAT ESTIMATED MEASURED PERCENT
near() {
    awk -v e="$2" -v m="$3" -v p="$4" 'BEGIN { exit !(m > 0 && e > m * (1 - p / 100) && e < m * (1 + p / 100)) }' ||
        wrong "$1: estimated '$2', measured '$3'"
}

# check NAME SET...: run two epochs, estimate the plan of that run.
check() {
    name=$1
    shift
    rm -rf "$dir/out"
    works train "$demo" --set "system.groups=$groups" "$@"
    works estimate "$demo" "$@" --plan "$dir/out/plan.yaml" --json
    grep -q '"from":"data"' "$dir/stdout" || wrong "does not take the lengths of the data"
    for rank in $(seq 0 $((ranks - 1))); do
        near "$name, rank $rank" "$(of_device "$rank")" "$(measured "$rank" hybrid)" 5
    done
}

check parallel
near "parallel, cached" "$(of_cached)" "$(measured 0 cached)" 5 # of 4 MiB, 60 KiB are a run's own records
check lora --set technique.name=lora --set cache=none
most=$(for rank in $(seq 0 $((ranks - 1))); do measured "$rank" hybrid; done | sort -n | tail -n 1)
check adapters --set technique.name=adapters --set cache=none --set train.optimizer=sgd --set train.dropout=0.1
check full --set technique.name=full --set cache=none --set train.recompute=true
check full --set technique.name=full --set cache=none

# Layers that come and go; the demo's are not f32.
cat >"$dir/t5.json" <<JSON
{"model_type": "t5", "vocab_size": 64, "d_model": 256, "d_kv": 64, "num_heads": 4, "d_ff": 1024, "num_layers": 3, "num_decoder_layers": 2}
JSON
works init-model "$dir/t5.json" "$dir/t5" --quiet
sed "s|path: .*|path: $dir/t5}|" "$yaml" >"$dir/streamed.yaml"
demo=$dir/streamed.yaml
check streamed --set model.stream=true
check "streamed, by layers" --set model.stream=true --set train.microbatches=4
demo=$dir/demo.yaml
expect 3 "model.stream reads f32 in place" train "$demo" --set "system.groups=$groups" --set model.stream=true

# A given plan is held to the budget before anything is loaded.
lora="$demo --set system.groups=$(echo "$groups" | tr -d ' ') --set technique.name=lora --set cache=none --set train.epochs=1"
# shellcheck disable=SC2086
works train $lora --set "system.memory=$((most * 102 / 100 + 458752)) B" # and a run's own records
# shellcheck disable=SC2086
expect 4 "(system.memory): train.recompute, more train.microbatches" train $lora --set "system.memory=$((most * 95 / 100)) B"

# What an estimate says fits is what train takes; with 32 KiB less neither does. The message has every part.
sed 's/eval: [^,]*,//' "$demo" >"$dir/tune.yaml" # an estimate reads no task.eval
cp "$dir/out/plan.yaml" "$dir/plan.yaml"
lora1="$dir/tune.yaml --plan $dir/plan.yaml --set technique.name=lora --set cache=none --set train.epochs=1"
# shellcheck disable=SC2086
works estimate $lora1 --json
needs=$(grep -o '"needs":[0-9]*' "$dir/stdout" | sed 's/.*://' | sort -n | tail -n 1)
for spare in 0 -32768; do
    # shellcheck disable=SC2086
    works estimate $lora1 --set "system.memory=$((needs + spare)) B"
    if [ "$spare" = 0 ]; then
        ! grep -q 'does not fit' "$dir/stdout" || wrong "does not fit to the byte"
        # shellcheck disable=SC2086
        works train $lora1 --set "system.memory=$needs B"
    else
        grep -q 'does not fit' "$dir/stdout" || wrong "fits with 32 KiB less"
        # shellcheck disable=SC2086
        expect 4 "Each at its peak: weights " train $lora1 --set "system.memory=$((needs + spare)) B"
    fi
done

# Without files: shapes, fixed lengths.
works estimate --shape t5-base --technique full --batch 16 --source 128 --target 1 --json
grep -q '"parameters":{"backbone":222903552,"tuned":222903552,"head":0}' "$dir/stdout" || wrong "wrong parameters"
grep -q '"from":"fixed"' "$dir/stdout" || wrong "lengths that are not fixed"
works estimate --shape bert-base --set task.name=mrpc --set head=classification
works estimate --shape t5-small --technique inference --set task.name=mrpc --set head=classification
works estimate --shape bert-minilm --set task.name=mrpc --set head=classification --set task.pairs=separate
works estimate "$yaml" --devices 4 --set system.name=ecofl --set task.train=missing
grep -q 'device 3: layers' "$dir/stdout" || wrong "does not show four devices"
works estimate "$yaml" --devices 2 --set system.name=eddl --set system.memory=10KiB
grep -q 'does not fit' "$dir/stdout" || wrong "does not say that it does not fit"

expect 2 "RUN.yaml or --shape NAME is needed" estimate
expect 2 "unknown shape 't5-smal'" estimate --shape t5-smal
expect 2 "estimate takes a number of equal devices" estimate "$yaml" --devices x
expect 2 "--plan or --devices, not both" estimate "$yaml" --devices 2 --plan p
expect 2 "standalone is one device" estimate "$yaml" --devices 2 --set system.name=standalone
expect 2 "use head: classification" estimate --shape bert-base
expect 3 "$dir/none" estimate "$yaml" --set "model.path=$dir/none"
exit $failed
