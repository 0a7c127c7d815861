#!/bin/sh
# usage: beams.sh PAC RUN_SH FIXTURES MODEL MAX_NEW [BACKEND]
# Beam search against Hugging Face's (tests/golden/make_beams.py), on one stage, on several, on several ranks of a stage; one beam is
# greedy. us-bart: where PAC_SHARED names the folder that has it.
set -u
pac=$1 run=$2 fixtures=$3 model=$4 max_new=$5 backend=${6-auto}
expected=$fixtures/beams/$(echo "$model" | tr / -).jsonl
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

if [ "$model" = us-bart ]; then
    [ -f "${PAC_SHARED-}/models/us-bart/config.json" ] || { echo "PAC_SHARED names no folder with models/us-bart"; exit 77; }
    cp -r "$PAC_SHARED/models/us-bart" "$dir/model"
    head -n "$(wc -l <"$expected")" "$PAC_SHARED/pronounce/dev.jsonl" | sed 's/.*\("input_ids": *\[[^]]*]\).*/{\1}/' >"$dir/rows.jsonl"
else
    cp -r "$fixtures/$model" "$dir/model"
    sed 's/.*\("input_ids":\[[^]]*]\).*/{\1}/' "$expected" >"$dir/rows.jsonl"
fi
chmod -R u+w "$dir/model"
end=$(sed -n '1s/.*"end":\([0-9]*\).*/\1/p' "$expected")
sed "s/\"eos_token_id\": *[0-9]*/\"eos_token_id\": $end/" "$dir/model/config.json" >"$dir/config.json"
mv "$dir/config.json" "$dir/model/config.json"

# predict RANKS OPTION...: to $dir/answers
predict() {
    ranks=$1
    shift
    "$run" "$ranks" "$pac" predict --model "$dir/model" --input "$dir/rows.jsonl" --max-new "$max_new" --backend "$backend" --quiet "$@" \
        >"$dir/answers" 2>"$dir/log" || { echo "on $ranks, $*:"; cat "$dir/log"; failed=1; }
    ! grep 'not freed' "$dir/log" || failed=1
}
ids() { sed 's/.*"output_ids":\(\[[^]]*]\).*/\1/' "$1"; }
score() { sed 's/.*"score":\([-0-9.e]*\).*/\1/' "$1"; }

ids "$expected" >"$dir/ids"
score "$expected" >"$dir/scores"
for ranks in 1 2 3 7; do
    predict $ranks --beams 4
    ids "$dir/answers" | diff "$dir/ids" - >"$dir/diff" || { echo "on $ranks ranks, other answers:"; cat "$dir/diff"; failed=1; }
    score "$dir/answers" | paste "$dir/scores" - | awk '{ d = $1 - $2; if (d > 1e-5 || d < -1e-5 || $2 == "") bad = 1 } END { exit bad }' ||
        { echo "on $ranks ranks: other scores"; failed=1; }
done
predict 2
mv "$dir/answers" "$dir/greedy"
predict 2 --beams 1
cmp "$dir/answers" "$dir/greedy" || failed=1
exit $failed
