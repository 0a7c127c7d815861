#!/bin/sh
# usage: runs.sh PAC RUN_SH FIXTURES DATA [FULL_DISK_SO]
# Whole runs of pac on the tiny golden model in corner cases: the same metrics and answers on every number of ranks, fewer rows than
# ranks, --steps, kept caches, plans from profiles, the documented exit status of failures. No run may end with memory not freed.
set -u
pac=$1 run=$2 fixtures=$3 data=$4 full_disk=${5-}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
PAC_TIMEOUT=60
export PAC_TIMEOUT

head -3 "$data" >"$dir/few.jsonl"
cat >"$dir/run.yaml" <<YAML
model: {path: $fixtures/t5v10}
task: {name: tokens, train: $data, eval: $data, max_source: 24, max_target: 6}
technique: {name: parallel, reduction: 4, gate: learned, layers: all, merge: add, init: magnitude}
train: {epochs: 3, batch: 8, microbatches: 3, lr: 3.0e-3, warmup: 2, seed: 3}
cache: {dir: $dir/cache}
output: $dir/out
YAML

fail() {
    echo "$what: $1"
    cat "$dir/log"
    failed=1
}

# pac_run STATUS RANKS ARGUMENT...: standard output in $dir/out.json
pac_run() {
    status=$1 ranks=$2
    shift 2
    what="on $ranks: $*"
    "$run" "$ranks" "$pac" "$@" --quiet >"$dir/out.json" 2>"$dir/log" </dev/null
    got=$?
    [ "$got" = "$status" ] || fail "ended with $got instead of $status"
    grep -q 'not freed' "$dir/log" && fail "memory was not freed"
    return 0
}

train() {
    status=$1 ranks=$2
    shift 2
    pac_run "$status" "$ranks" train "$dir/run.yaml" --json "$@"
}

# says PATTERN: it occurs in the result
says() {
    grep -q "$1" "$dir/out.json" || { fail "no $1 in the result"; cat "$dir/out.json"; }
}

metric() {
    sed 's/.*"exact_match":\([0-9.]*\).*/\1/' "$dir/out.json"
}

# of a run, after it
tuned() {
    sed 's/.*"eval":{"exact_match":\([0-9.]*\).*/\1/' "$dir/out.json"
}

# ---- the same on every number of ranks
reference=
for groups in 1 4 2,1 1,2 1,1,1 1,1,1,1,1; do
    train 0 $(($(echo "$groups" | tr ',' '+'))) --set "system.groups=[$groups]" --set train.eval_every=epoch
    [ "${reference:=$(tuned)}" = "$(tuned)" ] || fail "exact match $(tuned) instead of $reference"
done
for rank in 0 1 2 3 4; do
    grep -q "\"event\":\"memory\".*\"rank\":$rank," "$dir/out/metrics.jsonl" || fail "no memory of rank $rank in metrics.jsonl"
done
[ "$(grep -c '"event":"eval"' "$dir/out/metrics.jsonl")" = 4 ] || fail "not four evaluations in metrics.jsonl"
head -3 "$data" >"$dir/input.jsonl"
echo '{"input_ids":[5,6,7,1]}' >>"$dir/input.jsonl"
answers=
for ranks in 1 2 3 5; do
    pac_run 0 "$ranks" eval "$dir/run.yaml" --adapters "$dir/out/adapters" --json
    [ "$(metric)" = "$reference" ] || fail "exact match $(metric) instead of $reference"
    pac_run 0 "$ranks" predict --model "$fixtures/t5v10" --adapters "$dir/out/adapters" --input "$dir/input.jsonl" --logits "$dir/l.$ranks"
    [ "${answers:=$(cat "$dir/out.json")}" = "$(cat "$dir/out.json")" ] || fail "other answers than on one rank"
    [ "$(wc -l <"$dir/out.json")" = 4 ] || fail "not an answer a line"
done

# a line that is typed long after the deadline of all other waits
what="a late line"
(sleep 4; echo '5 6 7 1') | PAC_TIMEOUT=2 "$run" 2 "$pac" predict --model "$fixtures/t5v10" --quiet --max-new 2 >"$dir/out.json" 2>"$dir/log"
[ "$(wc -l <"$dir/out.json")" = 1 ] || fail "was not answered"

# ---- little data, runs that stop, one epoch
for groups in 4 1,1,1; do
    ranks=$(($(echo "$groups" | tr ',' '+')))
    for how in allgather shard; do
        train 0 "$ranks" --set "system.groups=[$groups]" --set "task.train=$dir/few.jsonl" --set "cache.redistribute=$how"
        says '"status":"done"'
    done
    train 0 "$ranks" --set "system.groups=[$groups]" --steps 2
    says '"status":"stopped"'
    train 0 "$ranks" --set "system.groups=[$groups]" --steps 7
    says '"phase":"cached","seconds":[0-9.e-]*,"samples":16,'
    train 0 "$ranks" --set "system.groups=[$groups]" --set task.max_target=1 --set task.pad=max --set train.epochs=1
    says '"status":"done"'
done

# ---- half the bytes
train 0 2 --set 'system.groups=[2]'
whole=$(sed 's/.*"cache":{"bytes":\([0-9]*\).*/\1/' "$dir/out.json")
for groups in 2 1,1; do
    train 0 2 --set "system.groups=[$groups]" --set cache.dtype=bf16
    says '"cache":{"bytes":'"$((whole / 2))"','
    says '"phase":"cached"'
done

# ---- a quarter of the bytes, and a scale for each row
width=$(sed -n 's/.*"d_model": *\([0-9]*\).*/\1/p' "$fixtures/t5v10/config.json")
for groups in 1 2 1,1 1,2; do
    ranks=$(($(echo "$groups" | tr ',' '+')))
    train 0 "$ranks" --set "system.groups=[$groups]" --set cache.dtype=i8
    says '"cache":{"bytes":'"$((whole / 4 + whole / width))"','
    says '"phase":"cached"'
    scored=$(tuned)
    [ "$ranks" = 1 ] && alone=$scored
    [ "$scored" = "$alone" ] || fail "exact match $scored instead of $alone with i8"
done

# ---- a kept cache, also of one epoch; not of part of one
train 0 2 --set cache.keep=true --steps 2
[ -e "$dir/cache" ] && fail "the cache of part of an epoch was kept"
train 0 2 --set cache.keep=true --set train.epochs=1
says '"reused":false'
train 0 3 --set cache.keep=true --set train.epochs=1
says '"reused":true'
says '"epochs":.{"phase":"cached"'
train 3 1 --set cache.keep=true --set task.max_source=20
rm -rf "$dir/cache"

# ---- profiles, plans and budgets
pac_run 0 2 profile "$dir/run.yaml" -o "$dir/profile.yaml" --json
pac_run 0 1 plan "$dir/run.yaml" --profile "$dir/profile.yaml" --json --set 'system.memory=[1MB,2MB]' --set 'system.groups=[1,1]'
says '"bytes":[0-9.]*,"budget":1000000}'
says '"bytes":[0-9.]*,"budget":2000000}'
pac_run 2 1 plan "$dir/run.yaml" --profile "$dir/profile.yaml" --set 'system.memory=[1MB,2MB,3MB]'
pac_run 4 1 plan "$dir/run.yaml" --profile "$dir/profile.yaml" --set system.memory=100kB
pac_run 0 1 eval "$dir/run.yaml" --json --set 'system.memory=[1MB,2MB]'
train 2 1 --set 'system.memory=[1MB,2MB]'
train 2 2 --profile "$dir/profile.yaml" --set technique.name=full # and of another technique
grep -q 'of another technique (parallel) than this run' "$dir/log" || fail "no clear message"
train 2 2 --profile "$dir/profile.yaml" --set train.optimizer=sgd
grep -q 'of another optimizer (adamw) than this run' "$dir/log" || fail "no clear message"
sed -i 's/{encoder: 2, decoder: 3}/{encoder: 3, decoder: 2}/' "$dir/profile.yaml" # a profile of another model
train 2 2 --profile "$dir/profile.yaml"
grep -q 'profile again' "$dir/log" || fail "no clear message"

# ---- a rank left out, and unequal parts in the cached phase
train 0 1
reference=$(tuned)
cat >"$dir/two_of_four.yaml" <<YAML
world: 4
layers: 5
microbatches: 3
stages:
  - {layers: [0, 2], ranks: [3], shares: [1]}
  - {layers: [2, 5], ranks: [0], shares: [1]}
left_out: [1, 2]
cached_shares: [0.7, 0, 0, 0.3]
YAML
for how in allgather shard; do
    train 0 4 --plan "$dir/two_of_four.yaml" --set "cache.redistribute=$how"
    [ "$(tuned)" = "$reference" ] || fail "exact match $(tuned) instead of $reference"
    says '"left_out":.1,2.'
    says '"ranks":.3.'
    says '"rank":3,"phase":"cached"'
    for turn in first second; do # a kept cache is of the ranks that take part: written, then read
        train 0 4 --plan "$dir/two_of_four.yaml" --set "cache.redistribute=$how" --set cache.keep=true
        [ "$(tuned)" = "$reference" ] || fail "exact match $(tuned) instead of $reference, $turn run with a kept cache"
    done
    rm -rf "$dir/cache"
done
sed 's/left_out.*//; s/cached_shares.*//; s/\[3\], shares: .1./[3, 1], shares: [0.5, 0.5]/; s/\[0\], shares: .1./[0, 2], shares: [0.5, 0.5]/' \
    "$dir/two_of_four.yaml" >"$dir/four.yaml"
train 0 4 --plan "$dir/four.yaml" --set cache.redistribute=shard --set cache.keep=true
train 0 4 --plan "$dir/two_of_four.yaml" --set cache.redistribute=shard # each has samples that nobody would train on
[ "$(tuned)" = "$reference" ] || fail "exact match $(tuned) instead of $reference after the cache of four"
rm -rf "$dir/cache"
sed 's/ranks: .0., /ranks: [1], /; s/left_out: .1/left_out: [0/; s/0.7, 0/0, 0.7/' "$dir/two_of_four.yaml" >"$dir/without_0.yaml"
train 2 4 --plan "$dir/without_0.yaml"
grep -q 'rank 0 reads the data' "$dir/log" || fail "no clear message"
sed 's/left_out.*//' "$dir/two_of_four.yaml" >"$dir/short.yaml"
train 2 4 --plan "$dir/short.yaml"
grep -q 'rank 1 is in no stage' "$dir/log" || fail "no clear message"
train 0 2 --set 'system.groups=[1,1]' --steps 1
sed 's/cached: true/cached: false/' "$dir/out/plan.yaml" >"$dir/uncached.yaml"
train 0 2 --plan "$dir/uncached.yaml"
grep -q '"phase":"cached"' "$dir/out.json" && fail "the cache was used against the plan"

# ---- a given plan that is none of the system's
train 0 2 --set 'system.groups=[1,1]' --steps 1
cp "$dir/out/plan.yaml" "$dir/pipeline.yaml"
train 0 2 --set system.name=ecofl --steps 1 --plan "$dir/pipeline.yaml"
for system in standalone eddl; do
    train 2 2 --set system.name=$system --plan "$dir/pipeline.yaml"
    grep -q 'the given plan is 1-1\|standalone is one device' "$dir/log" || fail "no clear message"
done

# ---- failures
mkdir "$dir/broken" # the last weight of this backbone is no number
cp "$fixtures/t5v10/config.json" "$dir/broken"
{ head -c -4 "$fixtures/t5v10/model.safetensors" && printf '\000\000\300\177'; } >"$dir/broken/model.safetensors"
pac_run 0 2 eval "$dir/run.yaml" --json --set "model.path=$dir/broken"
says '"loss":null'
for ranks in 1 3; do
    train 5 "$ranks" --set "model.path=$dir/broken" --set technique.init=random
    train 3 "$ranks" --set task.eval=missing.jsonl
    train 3 "$ranks" --set output=/proc/no
    train 3 "$ranks" --set cache.dir=/proc/no
done
if [ -n "$full_disk" ]; then # writes of rank 1 (or the only one) to the cache fail: early, and in the middle of a step
    cat >"$dir/preload.sh" <<'SH'
#!/bin/sh
LD_PRELOAD=$FULL_DISK exec "$@"
SH
    chmod +x "$dir/preload.sh"
    program=$pac
    for groups in 1 2 1,1 1,2; do
        ranks=$(($(echo "$groups" | tr ',' '+')))
        for writes in 1 12; do
            what="full disk after $writes writes, groups $groups"
            FULL_DISK=$full_disk FULL_DISK_RANK=$((ranks > 1)) FULL_DISK_AFTER=$writes "$run" "$ranks" "$dir/preload.sh" "$program" train \
                "$dir/run.yaml" --quiet --set "system.groups=[$groups]" --set train.microbatches=8 >"$dir/out.json" 2>"$dir/log"
            got=$?
            [ "$got" = 4 ] || fail "ended with $got instead of 4"
            grep -q 'no space left on the disk' "$dir/log" || fail "no clear message"
        done
    done
fi
# ---- a run that is refused leaves what an earlier one wrote
train 0 1 --set "system.groups=[1]" --set "output=$dir/kept"
(cd "$dir/kept" && find . -type f -exec cksum {} + | sort) >"$dir/before"
train 2 3 --set system.name=standalone --set "output=$dir/kept"
train 2 2 --set "system.groups=[2,1,1]" --set "output=$dir/kept"
train 4 1 --set system.memory=100KiB --set "output=$dir/kept"
train 3 1 --plan "$dir/nothere.yaml" --set "output=$dir/kept"
train 3 1 --set "system.groups=[1]" --set "output=$dir/kept" --set cache.dir=/proc/none/cache
train 2 2 --plan "$dir/kept/plan.yaml" --set "system.groups=[2]" --set "output=$dir/kept"
(cd "$dir/kept" && find . -type f -exec cksum {} + | sort) >"$dir/after"
cmp -s "$dir/before" "$dir/after" || { what="refused runs"; fail "changed the output of an earlier run"; diff "$dir/before" "$dir/after"; }

exit $failed
