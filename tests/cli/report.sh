#!/bin/sh
# pac report: runs that are written down here by hand, so every number of the table is known; then files that are wrong.
set -u
. "$(dirname "$0")/lib.sh"

# run NAME SEED TECHNIQUE ACCURACY LOSS: an output directory of three epochs on two ranks
run() {
    mkdir -p "$dir/runs/$1/adapters"
    cat >"$dir/runs/$1/metrics.jsonl" <<JSON
{"event":"eval","epoch":0,"metrics":{"accuracy":0.5,"loss":2.0},"rank":0,"time":1}
{"event":"step","phase":"hybrid","epoch":1,"step":1,"loss":2.0,"norm":1,"lr":0.1,"tokens":9,"seconds":0.1,"rank":0,"time":2}
{"event":"step","phase":"cached","epoch":2,"step":2,"loss":null,"norm":1,"lr":0.1,"tokens":9,"seconds":0.1,"rank":0,"time":2}
{"event":"epoch","phase":"hybrid","epoch":1,"seconds":10,"samples":8,"tokens":9,"loss":2.0,"rank":0,"time":12}
{"event":"eval","epoch":1,"metrics":{"accuracy":0.75,"loss":1.0},"rank":0,"time":13}
{"event":"epoch","phase":"cached","epoch":2,"seconds":2.25,"samples":8,"tokens":9,"loss":1.0,"rank":0,"time":15}
{"event":"epoch","phase":"cached","epoch":3,"seconds":2.25,"samples":8,"tokens":9,"loss":1.0,"rank":0,"time":18}
{"event":"eval","epoch":3,"metrics":{"accuracy":$4,"loss":$5},"rank":0,"time":19}
{"event":"memory","phase":"hybrid","peak_rss":1048576,"rss":1,"ledger":1048576,"rank":0,"time":12}
{"event":"memory","phase":"hybrid","peak_rss":3145728,"rss":1,"ledger":1048576,"rank":1,"time":12}
{"event":"something new","rank":0,"time":20.5}
JSON
    cat >"$dir/runs/$1/run.yaml" <<YAML
model: {path: models/t5-base/}
task: {name: mrpc, train: train.tsv}
technique: {name: $3}
system: {name: pac}
train: {seed: $2, lr: 0.1}
cache: {dir: "cache of $1"}
output: "$dir/runs/$1"
YAML
    cat >"$dir/runs/$1/plan.yaml" <<YAML
world: 2
layers: 4
microbatches: 2
stages: [{layers: [0, 2], ranks: [0]}, {layers: [2, 4], ranks: [1]}]
YAML
    echo '{"status": "done", "cache": {"bytes": 2097152, "seconds_redistribute": 0.5}}' >"$dir/runs/$1/result.json"
}

# has WORDS: standard output contains them (with any number of spaces between).
has() {
    tr -s ' ' <"$dir/stdout" | grep -qF -- "$1" || { wrong "does not print '$1'"; cat "$dir/stdout"; }
}
# inside FILE WORDS
inside() {
    grep -qF -- "$2" "$1" || { wrong "$1 does not say '$2'"; cat "$1"; }
}

expect 2 "is not UTF-8" report "$dir/$(printf '\377')"

# ---- one run, then seeds: means by hand. 0.8, 0.7 -> 0.75 +- 0.0707 ----
run lora-1 1 lora 0.8 null
run lora-2 2 lora 0.7 null
run side 1 parallel 0.625 0.9
works report "$dir/runs/side"
has 'run model technique system task plan n epochs accuracy loss best at epoch hybrid s cached s total s hybrid MiB cache MiB'
has 'side t5-base parallel pac mrpc 1-1 1 3 0.6250 0.9000 0.7500 1 10.00 4.50 20.50 3.0 2.0'
[ -f "$dir/runs/side/report/report.md" ] || wrong "does not write report.md into the run"

works report "$dir/runs/lora-1" "$dir/runs/lora-2/" "$dir/runs/side" -o "$dir/out"
has 'lora t5-base lora pac mrpc 1-1 2 3 0.7500 ± 0.0707 - 0.7750 ± 0.0354 2.0 ± 1.4 10.00 ± 0.00'
has 'side t5-base parallel pac mrpc 1-1 1 3 0.6250'
inside "$dir/out/report.md" '| lora | t5-base | lora | pac | mrpc | 1-1 | 2 | 3 | 0.7500 ± 0.0707 |'
inside "$dir/out/report.md" '`lora-1` (seed 1) `lora-2` (seed 2)'
inside "$dir/out/metrics.tsv" '3	0.75	0.07071068'
inside "$dir/out/time.tsv" 'side	10	4.5	0.5'
inside "$dir/out/memory.tsv" 'side	3'
inside "$dir/out/loss.tsv" '2	-'
works report "$dir/runs/lora-1" "$dir/runs/lora-2" "$dir/runs/side" -o "$dir/out" --json
has '"label":"lora"'
has '"seeds":[1,2],"n":2,"model":"t5-base","technique":"lora","system":"pac","task":"mrpc","plan":"1-1","ranks":2,"metric":"accuracy"'
has '"eval":{"accuracy":{"mean":0.75,"spread":0.0707106781,"n":2}}'
has '"peak_rss":{"hybrid":{"mean":3145728.0,"spread":0.0,"n":2}}'
if command -v gnuplot >/dev/null; then
    for plot in loss metrics time memory; do
        grep -q '</svg>' "$dir/out/$plot.svg" || wrong "$plot.svg is not drawn"
        inside "$dir/out/report.md" "($plot.svg)"
    done
    has '"plots":["loss.svg","metrics.svg","time.svg","memory.svg"]'
    inside "$dir/out/loss.svg" '>lora</text>'
fi

# ---- without gnuplot: said; the scripts and no old plot are left ----
mkdir "$dir/bin"
PATH_BEFORE=$PATH
for tool in timeout sh grep sed cat tr; do ln -s "$(command -v $tool)" "$dir/bin/$tool"; done
if [ "$ranks" = 1 ]; then
    PATH=$dir/bin
    works report "$dir/runs/side" -o "$dir/out"
    PATH=$PATH_BEFORE
    inside "$dir/stderr" "gnuplot cannot be started"
    [ -f "$dir/out/loss.gp" ] && [ ! -f "$dir/out/loss.svg" ] || wrong "leaves an old plot, or no script"
    inside "$dir/out/report.md" 'gnuplot loss.gp'
fi

# ---- runs of which little is known are read, and not grouped ----
for name in bare-1 bare-2; do
    mkdir "$dir/runs/$name"
    cp "$dir/runs/side/metrics.jsonl" "$dir/runs/$name"
done
works report "$dir/runs/bare-1" "$dir/runs/bare-2" -o "$dir/out"
has 'bare-1 - - - - - 1 3 0.6250'
has 'bare-2 - - - - - 1 3 0.6250'
printf '{"event":"step","phase":"hyb' >>"$dir/runs/bare-1/metrics.jsonl"
works report "$dir/runs/bare-1" -o "$dir/out"
inside "$dir/stderr" "metrics.jsonl:12: the last line is cut off"

# ---- what is wrong is named with file and line ----
# bad WORDS LINE: metrics.jsonl with this line as its second.
bad() {
    mkdir -p "$dir/runs/bad"
    { head -1 "$dir/runs/side/metrics.jsonl"; printf '%s\n' "$2"; } >"$dir/runs/bad/metrics.jsonl"
    expect 3 "bad/metrics.jsonl:2: $1" report "$dir/runs/side" "$dir/runs/bad" -o "$dir/out"
}
tail=',"rank":0,"time":1}'
bad "not a JSON object" '{"event":'
bad "not a JSON object" '{"event":"step","event":"step"}'
bad "not a JSON object" ''
bad "a JSON object {...} is expected" '[1]'
bad 'no name at "event"' '{"rank":0,"time":1}'
bad 'no key "rank"' '{"event":"eval","time":1}'
bad 'wrong value of "time"' '{"event":"eval","rank":0,"time":-1}'
bad 'no key "step"' '{"event":"step","loss":1'"$tail"
bad 'wrong value of "step"' '{"event":"step","step":1e3,"loss":1'"$tail"
bad 'wrong type of "loss"' '{"event":"step","step":1,"loss":"x"'"$tail"
bad 'no name at "phase"' '{"event":"epoch","epoch":1,"seconds":1'"$tail"
bad 'a name of a phase or metric' '{"event":"epoch","phase":"a b","epoch":1,"seconds":1'"$tail"
bad 'a name of a phase or metric' '{"event":"epoch","phase":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","epoch":1,"seconds":1'"$tail"
bad 'no "metrics"' '{"event":"eval","epoch":1'"$tail"
bad 'wrong type of "f1"' '{"event":"eval","epoch":1,"metrics":{"f1":[]}'"$tail"
bad "'k': more than 12 names" '{"event":"eval","epoch":1,"metrics":{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1}'"$tail"
bad 'wrong value of "peak_rss"' '{"event":"memory","phase":"eval","peak_rss":true,"ledger":1'"$tail"
bad "not a JSON object" "$(head -c 100000 /dev/zero | tr '\0' '[')"
printf '{"a":1}\0\n\n' >"$dir/runs/bad/metrics.jsonl"
expect 3 "bad/metrics.jsonl:1" report "$dir/runs/bad"
: >"$dir/runs/bad/metrics.jsonl"
works report "$dir/runs/side" "$dir/runs/bad" -o "$dir/beside" # a run that ended before it measured anything stops no comparison
has "side t5-base"
rm "$dir/runs/bad/metrics.jsonl"
expect 3 "bad/metrics.jsonl: No such file" report "$dir/runs/bad"
expect 3 "none: No such file" report "$dir/none"
cp "$dir/runs/side/metrics.jsonl" "$dir/runs/bad"
echo '{"status": ' >"$dir/runs/bad/result.json"
expect 3 "bad/result.json:" report "$dir/runs/bad"
echo '[]' >"$dir/runs/bad/result.json"
expect 3 "bad/result.json:1: a JSON object" report "$dir/runs/bad"
rm "$dir/runs/bad/result.json"
printf 'train: {seed: x}\n' >"$dir/runs/bad/run.yaml"
expect 3 "bad/run.yaml:1: train.seed" report "$dir/runs/bad"
printf -- '- 1\n' >"$dir/runs/bad/run.yaml"
expect 3 "bad/run.yaml:1: a map" report "$dir/runs/bad"
printf 'model: [\n' >"$dir/runs/bad/run.yaml"
expect 3 "bad/run.yaml:" report "$dir/runs/bad"
rm "$dir/runs/bad/run.yaml"
printf 'world: 2\nlayers: 4\n' >"$dir/runs/bad/plan.yaml"
expect 3 "bad/plan.yaml" report "$dir/runs/bad"

# ---- command lines ----
expect 2 "an argument is missing" report
expect 2 "is given twice" report "$dir/runs/side" "$dir/runs/../runs/side"
expect 3 "file/out" report "$dir/runs/side" -o "$dir/file/out"
exit $failed
