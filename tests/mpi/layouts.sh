#!/bin/sh
# usage: layouts.sh PAC COMPARE RUN_SH FIXTURES MODEL TECHNIQUE [OPTION...]
# Trains a tiny model (t5v10, t5v11: golden fixtures; bart, bert: random weights) on one rank, then under every plan of the issue with
# equal and unequal shares, and compares step losses and what learned (compare_runs.c). OPTIONs (--set ...) are given to every run.
set -eu
pac=$1 compare=$2 run=$3 fixtures=$4 model=$5 technique=$6
shift 6
here=$(dirname "$0")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# a sentence of a to z for row $1
words() {
    i=0
    while [ $i -lt $((3 + $1 % 7)) ]; do
        printf '%b ' "\\0$(printf %o $((97 + ($1 * 11 + i * i * 5 + i) % 26)))"
        i=$((i + 1))
    done
}

# bert: five layers, a vocabulary of letters, 37 sentence pairs with classes
make_bert() {
    cat >"$dir/bert.json" <<JSON
{"model_type": "bert", "vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 5, "num_attention_heads": 2, "intermediate_size": 32,
 "hidden_act": "gelu", "max_position_embeddings": 64, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "initializer_range": 0.3}
JSON
    "$pac" init-model "$dir/bert.json" "$dir/model" --seed 5 --quiet
    { printf '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n'; printf '%s\n' a b c d e f g h i j k l m n o p q r s t u v w x y z; } >"$dir/model/vocab.txt"
    printf 'Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n' >"$dir/data.tsv"
    row=0
    while [ $row -lt 37 ]; do
        printf '%d\t1\t2\t%s\t%s\n' $((row * 7 / 3 % 2)) "$(words $row)" "$(words $((row * 3 + 1)))" >>"$dir/data.tsv"
        row=$((row + 1))
    done
}

# bart: 3 + 2 layers
make_bart() {
    cat >"$dir/bart.json" <<JSON
{"model_type": "bart", "vocab_size": 64, "d_model": 16, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 2,
 "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "activation_function": "gelu", "max_position_embeddings": 64,
 "init_std": 0.3, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1, "decoder_start_token_id": 1, "is_encoder_decoder": true}
JSON
    "$pac" init-model "$dir/bart.json" "$dir/model" --seed 5 --quiet
}

path=$dir/model head=lm task="{name: tokens, train: $here/tokens.jsonl, max_source: 24, max_target: 6}"
case $model in
bert) make_bert && head=classification task="{name: mrpc, train: $dir/data.tsv, max_source: 24}" ;;
bart) make_bart ;;
*) path=$fixtures/$model ;;
esac
case $technique in
parallel) options="reduction: 4, gate: learned, layers: all, merge: add, init: magnitude" ;;
lora) options="rank: 4, alpha: 8" ;;
adapters) options="width: 4" ;;
full) options="" ;;
esac
cat >"$dir/run.yaml" <<YAML
model: {path: $path}
task: $task
head: $head
technique: {name: $technique, $options}
train: {epochs: 3, batch: 8, microbatches: 3, lr: 3.0e-3, warmup: 2, seed: 3, bucket: 4096 B}
YAML

# train NAME RANKS OPTION...
train() {
    name=$1 ranks=$2 cached=
    shift 2
    [ $technique = parallel ] && cached="--set cache.dir=$dir/$name/cache"
    # shellcheck disable=SC2086
    if ! "$run" "$ranks" "$pac" train "$dir/run.yaml" --quiet --json --set "output=$dir/$name" $cached "$@" \
        >"$dir/$name.json" 2>"$dir/$name.log"; then
        echo "$name: train failed"
        cat "$dir/$name.log"
        exit 1
    fi
}

train init 1 --set system.groups=[1] "$@" --set train.lr=0
train reference 1 --set system.groups=[1] "$@"

# Where what learns in the backbone differs by one f32 rounding, rows there fall to the other side of a border between bf16 numbers
bounds=
case "$technique $*" in
parallel*) ;;
*dtype=bf16*) bounds="4e-3 3e-2" ;;
esac
failed=0
# check NAME: compares with the reference, measured by the distance that the adapters moved
check() {
    # shellcheck disable=SC2086
    "$compare" "$dir/init" "$dir/reference" "$dir/$1" $bounds || { echo "$1: differs from one rank"; failed=1; }
}

shapes="2 1,1 3 2,1 1,2 1,1,1 4 2,2 3,1 2,1,1 1,1,1,1"
case " $* " in
*" backend=split "*) shapes="2 1,2 1,1,1,1" ;; # the plans below have the rest; which ranks do what is no matter of the memory
esac
for groups in $shapes; do
    ranks=$(($(echo "$groups" | tr ',' '+')))
    train "g$groups" "$ranks" --set "system.groups=[$groups]" "$@"
    check "g$groups"
done

# unequal shares, cuts and orders of ranks
for plan in "$here"/plans/*.yaml; do
    name=$(basename "$plan" .yaml)
    ranks=$(sed -n 's/^world: *\([0-9]*\).*/\1/p' "$plan")
    train "$name" "$ranks" --plan "$plan" "$@"
    check "$name"
done

[ $technique = parallel ] || exit $failed
train nocache 1 --set system.groups=[1] "$@" --set cache=none
check nocache
train nocache22 4 --set system.groups=[2,2] "$@" --set cache=none
check nocache22
case " $* " in
*" backend=split "* | *dtype=bf16*) ;; # refused
*) # layers that are read when they are needed, for three micro-batches at once and for one after the other
    train streamed 1 --set system.groups=[1] "$@" --set model.stream=true
    check streamed
    train streamed21 3 --set system.groups=[2,1] "$@" --set model.stream=true
    check streamed21
    ;;
esac
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
