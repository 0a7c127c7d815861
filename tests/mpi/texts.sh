#!/bin/sh
# usage: texts.sh PAC RUN_SH
# Rows of text before training: one that is longer than the model has positions is found at once, and with task.split: paper the metrics
# before tuning are of the rows that those after it are of (the learning rate is 0: they must be equal).
set -u
pac=$1 run=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

cat >"$dir/bart.json" <<JSON
{"model_type": "bart", "vocab_size": 264, "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
 "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "activation_function": "gelu", "max_position_embeddings": 48,
 "init_std": 0.3, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2, "is_encoder_decoder": true}
JSON
"$pac" init-model "$dir/bart.json" "$dir/bart" --seed 5 --quiet >/dev/null || exit 1
{ # bytes and no merges: GPT-2 writes byte values as these characters
    printf '{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4'
    id=5
    for character in $(seq 33 126) $(seq 161 172) $(seq 174 323); do
        printf ', "\\u%04x": %d' "$character" $id
        id=$((id + 1))
    done
    printf '}\n'
} >"$dir/bart/vocab.json"
echo '#version: 0.2' >"$dir/bart/merges.txt"
{
    printf 'Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n'
    for letter in a b c d e f g h; do
        printf '1\t1\t2\t%s a\tb %s\n0\t1\t2\tc\t%s\n' $letter $letter $letter
    done
} >"$dir/mrpc.tsv"
cat >"$dir/run.yaml" <<YAML
model: {path: $dir/bart}
task: {name: mrpc, train: $dir/mrpc.tsv, eval: $dir/mrpc.tsv, split: paper, max_source: 48, max_target: 20}
technique: {name: lora, rank: 2}
train: {epochs: 1, batch: 8, lr: 0}
output: $dir/out
YAML

# train STATUS RANKS ARGUMENT...: standard output in $dir/out.json
train() {
    status=$1 ranks=$2
    shift 2
    what="on $ranks: $*"
    "$run" "$ranks" "$pac" train "$dir/run.yaml" --quiet --json "$@" >"$dir/out.json" 2>"$dir/log"
    got=$?
    [ "$got" = "$status" ] || fail "ended with $got instead of $status"
}

fail() {
    echo "$what: $1"
    cat "$dir/out.json" "$dir/log"
    failed=1
}

# loss_of KEY
loss_of() {
    grep -o "\"$1\":{[^}]*}" "$dir/out.json" | grep -o '"loss":[0-9.]*'
}

for ranks in 1 2; do
    train 0 "$ranks"
    [ -n "$(loss_of eval)" ] && [ "$(loss_of eval)" = "$(loss_of eval_before)" ] || fail "other rows before tuning than after"
    train 3 "$ranks" --set task.max_source=49 --set task.pad=max
    grep -q 'mrpc.tsv: row 1 has a sequence of 49 tokens; the model has 48 positions: set task.max_source' "$dir/log" || fail "no clear message"
    train 3 "$ranks" --set task.max_target=49 --set task.pad=max
    grep -q 'set task.max_target to at most 48' "$dir/log" || fail "no clear message"
done
exit $failed
