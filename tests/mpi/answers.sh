#!/bin/sh
# usage: answers.sh PAC RUN_SH DATA MODEL PAIRS
# Classes of sentence pairs (bert; bart where PAC_SHARED names a folder with vocab/bart), PAIRS joined or separate: pac eval
# --predictions says the same at every number of ranks, its labels give its metrics, and pac predict answers the same rows with the same
# labels and scores, typed or from a file, and as logits. MODEL t5v10: the same of texts, PAIRS being the fixtures.
set -u
pac=$1 run=$2 data=$3 model=$4 pairs=$5
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
fail() {
    echo "$*"
    failed=1
}

# a sentence of a to z for row $1
words() {
    i=0
    while [ $i -lt $((3 + $1 % 7)) ]; do
        printf '%b ' "\\0$(printf %o $((97 + ($1 * 11 + i * i * 5 + i) % 26)))"
        i=$((i + 1))
    done
}

make_rows() {
    printf 'Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n' >"$dir/data.tsv"
    row=0
    while [ $row -lt 29 ]; do
        printf '%d\t1\t2\t%s\t%s\n' $((row * 7 / 3 % 2)) "$(words $row)" "$(words $((row * 3 + 1)))" >>"$dir/data.tsv"
        row=$((row + 1))
    done
    tail -n +2 "$dir/data.tsv" | cut -f4,5 >"$dir/typed.txt"
    sed 's/\(.*\)\t\(.*\)/{"text": "\1", "text_pair": "\2"}/' "$dir/typed.txt" >"$dir/rows.jsonl"
}

case $model in
bert)
    layers=3
    cat >"$dir/config.json" <<JSON
{"model_type": "bert", "vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32,
 "hidden_act": "gelu", "max_position_embeddings": 64, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "initializer_range": 0.3}
JSON
    "$pac" init-model "$dir/config.json" "$dir/model" --seed 5 --quiet || exit 1
    { printf '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n'; printf '%s\n' a b c d e f g h i j k l m n o p q r s t u v w x y z; } >"$dir/model/vocab.txt"
    make_rows
    ;;
bart)
    [ -f "${PAC_SHARED-}/vocab/bart/vocab.json" ] || { echo "PAC_SHARED names no folder with vocab/bart"; exit 77; }
    layers=4
    cat >"$dir/config.json" <<JSON
{"model_type": "bart", "vocab_size": 50265, "d_model": 8, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
 "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "activation_function": "gelu", "max_position_embeddings": 64,
 "init_std": 0.3, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2, "is_encoder_decoder": true}
JSON
    "$pac" init-model "$dir/config.json" "$dir/model" --seed 5 --quiet || exit 1
    cp "$PAC_SHARED"/vocab/bart/vocab.json "$PAC_SHARED"/vocab/bart/merges.txt "$dir/model"
    make_rows
    ;;
t5v10)
    layers=5
    cp -r "$pairs/t5v10" "$dir/model"
    sed 's/,"labels":.*/}/' "$data" >"$dir/rows.jsonl"
    sed 's/.*"input_ids":\[\([^]]*\)\].*/\1/; s/,/ /g' "$data" >"$dir/typed.txt"
    ;;
esac
if [ "$model" = t5v10 ]; then
    head=lm answer=text gold=target metric=exact_match pairs=joined lr=1.0e-2
    task="name: tokens, train: $data, eval: $data, max_source: 24, max_target: 6"
else
    head=classification answer=label gold=gold metric=accuracy lr=3.0e-3
    task="name: mrpc, train: $dir/data.tsv, eval: $dir/data.tsv, max_source: 24"
fi
cat >"$dir/run.yaml" <<YAML
model: {path: $dir/model}
task: {$task, pairs: $pairs}
head: $head
technique: {name: full}
system: {groups: [1]}
train: {epochs: 12, batch: 8, lr: $lr, seed: 3}
cache: none
output: $dir/out
YAML

# pac_run RANKS ARGUMENT...: standard output in $dir/stdout
pac_run() {
    ranks=$1
    shift
    "$run" "$ranks" "$pac" "$@" --quiet >"$dir/stdout" 2>"$dir/log" <"$dir/typed.txt" || { fail "on $ranks: $*"; cat "$dir/log"; }
    ! grep 'not freed' "$dir/log" || fail "on $ranks: $*"
}
# field NAME FILE: a text of each line
field() { sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/" "$2"; }
scores() { sed 's/.*"scores":\[\([^]]*\)].*/\1/; s/,/ /g' "$1"; }
# same_scores FILE FILE: differ by rounding only (f32 sums in another order)
same_scores() {
    scores "$1" >"$dir/s1"
    scores "$2" | paste -d' ' "$dir/s1" - |
        awk '{ n = NF / 2; for (i = 1; i <= n; i++) { d = $i - $(i + n); if (d > 1e-5 || d < -1e-5) bad = 1 } } NF < 2 || NF % 2 { bad = 1 } END { exit bad || NR == 0 }'
}

one_stage() {
    printf 'world: %d\nlayers: %d\nmicrobatches: 1\nstages: [{layers: [0, %d], ranks: [%s]}]\n' $ranks $layers $layers "$1" >"$dir/out/plan.yaml"
}

pac_run 1 train "$dir/run.yaml"
rows=$(wc -l <"$dir/rows.jsonl")
for ranks in 1 2 3 5; do
    rm -f "$dir/p.jsonl" "$dir/out/plan.yaml"
    case $ranks in # eval takes the plan of the run where it fits, else stages
    2) one_stage "0, 1" ;;
    3) one_stage "0, 1, 2" ;;
    esac
    pac_run $ranks eval "$dir/run.yaml" --adapters "$dir/out/adapters" --predictions "$dir/p.jsonl" --json
    [ "$(wc -l <"$dir/p.jsonl")" = "$rows" ] || fail "on $ranks: not $rows lines"
    [ -f "$dir/first.jsonl" ] || cp "$dir/p.jsonl" "$dir/first.jsonl"
    field $answer "$dir/first.jsonl" >"$dir/answers"
    field $answer "$dir/p.jsonl" | diff "$dir/answers" - || fail "on $ranks: other answers"
    right=$(field $gold "$dir/p.jsonl" | paste -d'|' "$dir/answers" - | awk -F'|' -v n="$rows" '$1 == $2 { k++ } END { printf "%.4f", k / n }')
    got=$(sed "s/.*\"$metric\":\([0-9.]*\).*/\1/" "$dir/stdout" | awk '{ printf "%.4f", $1 }')
    [ "$right" = "$got" ] || fail "on $ranks: $metric is $got, by the predictions $right"
    [ $head = lm ] || same_scores "$dir/first.jsonl" "$dir/p.jsonl" || fail "on $ranks: other scores"
done
[ "$(sort -u "$dir/answers" | wc -l)" -gt 1 ] || fail "one answer to everything"

for ranks in 1 3; do
    pac_run $ranks predict --model "$dir/model" --adapters "$dir/out/adapters"
    diff "$dir/answers" "$dir/stdout" || fail "on $ranks: other answers to typed lines"
    pac_run $ranks predict --model "$dir/model" --adapters "$dir/out/adapters" --input "$dir/rows.jsonl" --logits "$dir/logits"
    field $answer "$dir/stdout" | diff "$dir/answers" - || fail "on $ranks: other answers to the file"
    [ $head = lm ] || same_scores "$dir/first.jsonl" "$dir/stdout" || fail "on $ranks: other scores in predict"
    [ "$(head -c 100000 "$dir/logits" | tr '{' '\n' | grep -c '"logits\.\|"dtype"')" -ge "$rows" ] || fail "on $ranks: not $rows logits"
done
exit $failed
