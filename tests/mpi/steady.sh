#!/bin/sh
# usage: steady.sh PAC RUN_SH DATA TECHNIQUE
# From the second step of a phase on, steps of equal batches allocate nothing, and when the backbone is not needed any more it is gone.
set -u
pac=$1 run=$2 data=$3 technique=$4
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
cat >"$dir/t5.json" <<JSON
{"model_type": "t5", "vocab_size": 64, "d_model": 256, "d_kv": 64, "num_heads": 4, "d_ff": 1024, "num_layers": 3, "num_decoder_layers": 2}
JSON
"$pac" init-model "$dir/t5.json" "$dir/t5" --quiet || exit 1
cache="cache: none"
[ "$technique" = parallel ] && cache="cache: {dir: $dir/cache}"
head -n 36 "$data" >"$dir/rows.jsonl"
cat >"$dir/run.yaml" <<YAML
model: {path: $dir/t5}
task: {name: tokens, train: $dir/rows.jsonl, max_source: 24, max_target: 6, pad: max}
technique: {name: $technique}
train: {epochs: 3, batch: 6}
$cache
output: $dir/out
YAML

# check RANKS GROUPS SET...
check() {
    ranks=$1 groups=$2
    shift 2
    if ! "$run" "$ranks" "$pac" train "$dir/run.yaml" --quiet --json --set "system.groups=$groups" "$@" >"$dir/json" 2>"$dir/log"; then
        cat "$dir/log"
        exit 1
    fi
    grep '"event": *"step"' "$dir/out/metrics.jsonl" | sed 's/.*"phase": *"\([a-z]*\)".*"epoch": *\([0-9]*\).*"step": *\([0-9]*\).*"allocations": *\([0-9]*\).*/\1 \2 \3 \4/' |
        awk -v what="$technique, groups $groups $*" '
        $1 " " $2 != epoch { epoch = $1 " " $2; n = 0 }
        { if (++n > 2) { compared++; if ($4 != last) { print what ": step " $3 " (" $1 ") made " $4 - last " blocks"; bad = 1 } } last = $4 }
        END { if (compared < 9) { print what ": only " compared " steps compared"; bad = 1 } exit bad }' || failed=1
}

check 1 [1]
check 1 [1] --set train.microbatches=3
check 2 [1,1] --set train.microbatches=3
check 2 [2] --set train.dropout=0.1
if [ "$technique" = parallel ]; then
    check 1 [1] --set model.stream=true --set train.microbatches=2
    check 1 [1] --set cache.dtype=i8 --set model.dtype=bf16
    check 1 [1]
    # bytes of a phase: its resident size at the end, and of it the ledger's weights
    of() {
        tr '{' '\n' <"$dir/json" | grep -A1 "\"phase\": *\"$1\",.*\"pss\"" | tr -d '\n' | sed "s/.*\"$2\": *\([0-9]*\).*/\1/"
    }
    for what in pss weights; do
        awk -v a="$(of hybrid $what)" -v b="$(of cached $what)" 'BEGIN { exit !(a > 0 && b >= 0 && b != "" && a - b > 12e6) }' || {
            echo "$what: $(of hybrid $what) bytes while the backbone is there (18 MB), $(of cached $what) in the cached phase"
            failed=1
        }
    done
fi
exit $failed
