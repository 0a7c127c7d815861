#!/bin/sh
# usage: fisher.sh PAC TENSORS RUN_SH FIXTURES DATA [BACKEND]
# technique.init: fisher gives, under every plan, the side network that PyTorch's squared gradients choose (fixtures/fisher, made by
# tests/golden/make_fisher.py); with a classification head, under every plan what one rank gives.
set -u
pac=$1 tensors=$2 run=$3 fixtures=$4 data=$5 backend=${6-auto}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
sed 's/[0-9]\([0-9]\)/\1/g' "$data" >"$dir/digits.jsonl"

# start RANKS OPTION...: a run without learning leaves the initial values as adapters in $dir/out
start() {
    ranks=$1
    shift
    rm -rf "$dir/out"
    "$run" "$ranks" "$pac" train "$dir/run.yaml" --quiet --json --set "output=$dir/out" --set "backend=$backend" "$@" >"$dir/log" 2>&1 || {
        cat "$dir/log"
        failed=1
    }
}

# same MODE REFERENCE WHAT
same() {
    "$tensors" "$1" "$2" "$dir/out/adapters/adapters.safetensors" >"$dir/log" 2>&1 || {
        echo "$3: other initial values"
        cat "$dir/log"
        failed=1
    }
}

# ---- against PyTorch ----
# options MODEL ROWS
options() {
    cat >"$dir/run.yaml" <<YAML
model: {path: $1}
task: {name: tokens, train: $2, max_source: 64, max_target: 64}
technique: {name: parallel, reduction: 4, init: fisher}
train: {epochs: 1, batch: 8, lr: 0, dropout: 0.5}
cache: none
YAML
}
options "$fixtures/t5v10" "$data"
shapes="1 2 1,1 2,1 1,2 1,1,1 1,2,1 4" bart_shapes="1 1,2" bert_shapes="1 2 1,1 2,1" plans="$(dirname "$0")/plans/*.yaml"
if [ "$backend" != auto ]; then # which ranks do what is no matter of the backend: whole, grouped, in stages, unequal
    shapes="1 1,2" bart_shapes="1,2" bert_shapes="1 2" plans="$(dirname "$0")/plans/u2-1.yaml"
fi
for groups in $shapes; do
    start "$(($(echo "$groups" | tr ',' '+')))" --set "system.groups=[$groups]"
    same part "$fixtures/fisher/t5v10.safetensors" "t5v10 in groups $groups"
done
for plan in $plans; do
    start "$(sed -n 's/^world: *\([0-9]*\).*/\1/p' "$plan")" --plan "$plan"
    same part "$fixtures/fisher/t5v10.safetensors" "t5v10 by $plan"
done
start 2 --set "system.groups=[1,1]" --set train.recompute=true
same part "$fixtures/fisher/t5v10.safetensors" "t5v10 with recomputation"
start 1 --set "system.groups=[1]" --set technique.init=magnitude
if "$tensors" part "$fixtures/fisher/t5v10.safetensors" "$dir/out/adapters/adapters.safetensors" >/dev/null; then
    echo "magnitudes choose the same: the test says nothing"
    failed=1
fi
options "$fixtures/tiny/bart" "$dir/digits.jsonl"
for groups in $bart_shapes; do
    start "$(($(echo "$groups" | tr ',' '+')))" --set "system.groups=[$groups]"
    same part "$fixtures/fisher/tiny_bart.safetensors" "bart in groups $groups"
done

# ---- with a classification head ----
mkdir "$dir/bert"
sed 's/"vocab_size": *[0-9]*/"vocab_size": 400/' "$fixtures/tiny/bert/config.json" >"$dir/config.json"
"$pac" init-model "$dir/config.json" "$dir/bert" --quiet >/dev/null || failed=1
cp "$fixtures/../../unit/cases/wordpiece/vocab.txt" "$dir/bert"
printf 'sentence\tlabel\na day\t1\nthe man\t0\na day a day\t1\nthe\t0\nthe man the day\t1\n' >"$dir/sst2.tsv"
options "$dir/bert" "$dir/sst2.tsv"
for groups in $bert_shapes; do
    start "$(($(echo "$groups" | tr ',' '+')))" --set "system.groups=[$groups]" --set task.name=sst2 --set head=classification
    [ "$groups" != 1 ] || cp "$dir/out/adapters/adapters.safetensors" "$dir/reference"
    same near "$dir/reference" "bert in groups $groups"
done
exit $failed
