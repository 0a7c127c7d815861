#!/bin/sh
# Data, models, plans, adapters and outputs: what is wrong ends with 3 (a plan: 2) and names file and place, before work is done.
set -u
. "$(dirname "$0")/lib.sh"

# ---- data ----
data() {
    cat >"$dir/rows.jsonl"
    expect 3 "rows.jsonl$1" train "$yaml" --set "task.train=$dir/rows.jsonl"
}
data ": the file is empty" </dev/null
printf '{"input_ids":[1,2],"labels":[1]}\n{"input_ids":[1,2\n' | data ":2: not a JSON object"
printf '{"input_ids":[1,2],"labels":[1]}\n{"input_ids":[1,9999],"labels":[1]}\n' | data ':2: element 2 of "input_ids" is no id'
printf '{"input_ids":[1,2]}\n' | data ':1: no key "labels"'
printf '{"input_ids":[],"labels":[1]}\n' | data ":1"
printf '\0\0\0' | data ":1: byte 1 is zero"
printf '\377\376x\n' | data ":1"
: >"$dir/empty"
expect 3 "none: cannot open: No such file" train "$yaml" --set "task.train=$dir/none"
expect 3 "empty: the file is empty" train "$yaml" --set "task.eval=$dir/empty"
expect 3 "no tokenizer; spiece.model, " train "$yaml" --set task.name=mrpc

# ---- models ----
# model WORDS: the directory m is refused.
model() {
    expect 3 "$1" train "$yaml" --set "model.path=$dir/m"
    rm -rf "$dir/m"
}
copy() {
    mkdir "$dir/m"
    cp "$fixtures/$1"/config.json "$fixtures/$1"/model*.safetensors* "$dir/m"
}
model "m/config.json: cannot open"
copy t5v10
rm "$dir/m/model.safetensors"
model "model.safetensors"
copy t5v10
head -c 5000 "$fixtures/t5v10/model.safetensors" >"$dir/m/model.safetensors"
model "model.safetensors: truncated"
copy t5v10
head -c 50000 "$fixtures/t5v10/model.safetensors" >"$dir/m/model.safetensors"
model "model.safetensors: "
copy t5v10
head -c 4000 /dev/zero | tr '\0' 'x' >"$dir/m/model.safetensors"
model "model.safetensors: "
copy t5v10
sed 's/"d_ff": *[0-9]*/"d_ff": 44/' "$fixtures/t5v10/config.json" >"$dir/m/config.json"
model "has shape [40, 32]; config.json asks for [44, 32]"
copy t5v10
sed 's/"num_layers": *[0-9]*/"num_layers": 9/' "$fixtures/t5v10/config.json" >"$dir/m/config.json"
model "is missing; config.json asks for it"
copy t5v10
echo '{"model_type": "t5", ' >"$dir/m/config.json"
model "config.json:2"
copy t5v10
sed 's/"model_type": *"[a-z0-9]*"/"model_type": "gpt9"/' "$fixtures/t5v10/config.json" >"$dir/m/config.json"
model "gpt9"
copy t5v11
rm "$dir/m/model-00002-of-00003.safetensors"
model "model-00002-of-00003.safetensors"

# ---- plans and profiles ----
# plan WORDS: the plan from standard input is refused.
plan() {
    cat >"$dir/plan.yaml"
    expect 2 "plan.yaml$1" train "$yaml" --plan "$dir/plan.yaml"
}
plan ": the plan is for 4 ranks, mpirun started $ranks" <<YAML
world: 4
layers: 5
microbatches: 2
stages:
  - {layers: [0, 3], ranks: [0, 1]}
  - {layers: [3, 5], ranks: [2, 3]}
YAML
if [ "$ranks" = 1 ]; then world="[0]"; else world="[0, 1, 2]"; fi
plan ": the plan is for 4 layers" <<YAML
world: $ranks
layers: 4
microbatches: 2
stages: [{layers: [0, 4], ranks: $world}]
YAML
plan ":4: stages end at layer 3" <<YAML
world: $ranks
layers: 5
microbatches: 2
stages: [{layers: [0, 3], ranks: $world}]
YAML
cut() { # more parts than a batch has samples
    printf 'world: %s\nlayers: 5\nmicrobatches: %s\nstages: [{layers: [0, 5], ranks: %s}]\n' "$ranks" "$1" "$world" >"$dir/plan.yaml"
}
cut 9
many="plan.yaml: microbatches: a batch of 8 samples (train.batch in $yaml) cannot be cut into 9: give at most 8"
expect 2 "$many" train "$yaml" --plan "$dir/plan.yaml" --set train.batch=8
if [ "$ranks" = 1 ]; then
    expect 2 "$many" estimate "$yaml" --plan "$dir/plan.yaml" --set train.batch=8
    printf 'devices: [{name: a, flops: 1 GFLOP/s, memory: 1 GiB, memory_bandwidth: 1 GB/s}]\n' >"$dir/devices.yaml"
    expect 2 "$many" simulate "$yaml" --devices "$dir/devices.yaml" --plan "$dir/plan.yaml" --set train.batch=8
    cut 8
    works estimate "$yaml" --plan "$dir/plan.yaml" --set train.batch=8
fi
expect 3 "none.yaml: cannot open" train "$yaml" --plan "$dir/none.yaml"
expect 3 "none.yaml: cannot open" train "$yaml" --profile "$dir/none.yaml"
expect 3 "none.yaml: cannot open" plan "$yaml" --profile "$dir/none.yaml"

# ---- outputs that cannot be written ----
expect 3 "file/p.jsonl" eval "$yaml" --set "task.eval=$tokens" --predictions "$dir/file/p.jsonl"
expect 3 "file/out: cannot create directory" train "$yaml" --set "output=$dir/file/out"
expect 3 "file/cache: " train "$yaml" --set "cache.dir=$dir/file/cache"
mkdir -p "$dir/taken/metrics.jsonl" "$dir/taken2/plan.yaml" "$dir/taken3"
: >"$dir/taken3/adapters"
expect 3 "metrics.jsonl: cannot write: Is a directory" train "$yaml" --set "output=$dir/taken"
expect 3 "plan.yaml: cannot write: Is a directory" train "$yaml" --set "output=$dir/taken2"
expect 3 "taken3/adapters" train "$yaml" --set "output=$dir/taken3"
expect 3 "file/p.yaml" profile "$yaml" -o "$dir/file/p.yaml"
if [ "$ranks" = 1 ]; then
    expect 3 "file/m: cannot create directory" init-model t5-small "$dir/file/m"
    expect 3 "exists: choose another directory" init-model t5-small "$fixtures/t5v10"
fi

# ---- adapters and caches ----
works train "$yaml" --quiet
adapters=$dir/out/adapters
works eval "$yaml" --adapters "$adapters" --set "task.eval=$tokens"
expect 3 "none/adapters.json: No such file" eval "$yaml" --adapters "$dir/none" --set "task.eval=$tokens"
expect 3 "trained on another backbone" predict --model "$fixtures/t5v11" --adapters "$adapters" --input "$tokens"
printf '{"input_ids":[1]}\n{"input_ids":[1\n' >"$dir/input.jsonl"
expect 3 "input.jsonl:2: not a JSON object" predict --model "$fixtures/t5v10" --adapters "$adapters" --input "$dir/input.jsonl"
printf '{"input_ids":[1]}\n{"text":"a","input_ids":[1]}\n' >"$dir/input.jsonl"
expect 3 'input.jsonl:2: "text" beside "input_ids"' predict --model "$fixtures/t5v10" --adapters "$adapters" --input "$dir/input.jsonl"
cp -R "$adapters" "$dir/cut"
head -c 3000 "$adapters/adapters.safetensors" >"$dir/cut/adapters.safetensors"
expect 3 "cut/adapters.safetensors: " predict --model "$fixtures/t5v10" --adapters "$dir/cut" --input "$tokens"
echo '{' >"$dir/cut/adapters.json"
expect 3 "cut/adapters.json" predict --model "$fixtures/t5v10" --adapters "$dir/cut" --input "$tokens"
expect 3 "none: there is no activation cache" cache info "$dir/none"
expect 3 "none: there is no activation cache" cache verify "$dir/none"
works train "$yaml" --quiet --set cache.keep=true --set "system.groups=[$ranks]" # measured plans may leave out a rank
works cache info "$dir/cache"
works cache verify "$dir/cache"
expect 3 "data" train "$yaml" --set cache.keep=true --set task.max_source=5
if [ "$ranks" -gt 1 ]; then # a cache from which a file is gone
    mv "$dir/cache/rank-0001.h5" "$dir/gone"
    expect 3 "the cache lacks part" cache verify "$dir/cache"
    mv "$dir/gone" "$dir/cache/rank-0001.h5"
    works cache verify "$dir/cache"
fi
for part in "$dir"/cache/rank-*.h5; do
    printf 'damage' | dd of="$part" bs=1 seek=150000 conv=notrunc 2>/dev/null # among the rows
done
expect 3 "$dir/cache" cache verify "$dir/cache"
exit $failed
