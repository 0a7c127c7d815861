#!/bin/sh
# pac simulate: what it prints agrees with pac estimate and with itself; what does not fit, or cannot be simulated, says so.
set -u
. "$(dirname "$0")/lib.sh"

cat >"$dir/cluster.yaml" <<YAML
devices:
  - {name: alpha, flops: 100 GFLOP/s, memory: 64 MiB, memory_bandwidth: 10 GB/s}
  - {name: beta, flops: 50 GFLOP/s, memory: 64 MiB, memory_bandwidth: 10 GB/s}
  - {name: gamma, flops: 25 GFLOP/s, memory: 64 MiB, memory_bandwidth: 5 GB/s}
network: {topology: switch, bandwidth: 100 Mbit/s, latency: 200 us}
YAML
cluster=$dir/cluster.yaml

if [ "$ranks" != 1 ]; then
    expect 2 "one process simulates all devices" simulate "$yaml" --devices "$cluster"
    exit $failed
fi

# field NAME: the first number (or word) of that name on standard output.
field() {
    grep -o "\"$1\": *[^,}]*" "$dir/stdout" | head -n 1 | sed 's/.*: *//'
}

works simulate "$yaml" --devices "$cluster" -o "$dir/chart.svg"
grep -q '^simulated, not measured: ' "$dir/stdout" || wrong "does not say that it is simulated"
grep -q '^<svg ' "$dir/chart.svg" || wrong "no chart"
# Both steps are the longer of computing and writing, where a cache is written.
[ "$(grep -c 'step, the cache written behind it, [0-9]' "$dir/stdout")" = 2 ] || wrong "does not say that both steps write the cache behind them"
works simulate "$yaml" --devices "$cluster" --set cache=none
grep -q '^simulated: *step [0-9]' "$dir/stdout" || wrong "speaks of a cache that there is not"
works simulate "$yaml" --devices "$cluster" --set 'system.groups=[1,1,1]' -o "$dir/chart.svg"
grep -q 'Simulated mini-batch (not measured)' "$dir/chart.svg" || wrong "the chart does not say that it is simulated"
for name in alpha beta gamma; do
    grep -q "^$name " "$dir/stdout" || wrong "no $name in the table"
    grep -q ">$name<" "$dir/chart.svg" || wrong "no $name in the chart"
done

# The same profile from a file: the same result.
works simulate "$yaml" --devices "$cluster" --json
cp "$dir/stdout" "$dir/from_cluster"
for key in fits oom hybrid_step_s hybrid_epoch_s redistribute_s cached_epoch_s total_s devices peak_bytes budget idle; do
    grep -q "\"$key\":" "$dir/stdout" || wrong "no $key"
done
[ "$(field fits)" = true ] || wrong "does not fit"
works profile "$yaml" --devices "$cluster" -o "$dir/profile.yaml"
works plan "$yaml" --profile "$dir/profile.yaml" --set 'system.groups=[1,1,1]' --set train.microbatches=4 -o "$dir/plan.yaml"
works simulate "$yaml" --profile "$dir/profile.yaml" --json
from_profile=$(field hybrid_step_s)
cp "$dir/from_cluster" "$dir/stdout"
awk -v a="$(field hybrid_step_s)" -v b="$from_profile" 'BEGIN { exit !(a > 0 && a < b * 1.001 && b < a * 1.001) }' ||
    wrong "a step of $(field hybrid_step_s) s becomes one of $from_profile s by way of a file"

# A given plan: the bytes of an estimate; without pipelining slower, all forwards first takes more memory.
works estimate "$yaml" --plan "$dir/plan.yaml" --json
needs=$(sed 's/.*"needs":\([0-9]*\).*/\1/' "$dir/stdout")
works simulate "$yaml" --devices "$cluster" --plan "$dir/plan.yaml" --json
sed 's/.*"peak_bytes":\([0-9]*\).*/\1/' "$dir/stdout" | # which holds no profile
    awk -v e="$needs" '{ exit !($1 > e - 20000 && $1 < e + 40000) }' || wrong "the last device's peak is not what the estimate says, $needs"
step=$(field hybrid_step_s)
works simulate "$yaml" --devices "$cluster" --plan "$dir/plan.yaml" --schedule sequential --json
awk -v a="$step" -v b="$(field hybrid_step_s)" 'BEGIN { exit !(a < b) }' || wrong "1F1B takes $step s, no pipelining $(field hybrid_step_s) s"
works simulate "$yaml" --devices "$cluster" --plan "$dir/plan.yaml" --schedule gpipe --json

# What does not fit: the whole result, the reason, status 4.
does_not_fit() {
    command="simulate $*"
    status=0
    start simulate "$@" || status=$?
    [ "$status" = 4 ] || wrong "ended with $status instead of 4"
    grep -q '"fits": *false' "$dir/stdout" || wrong "does not say that it does not fit"
    [ "$(grep -c "^pac: error: ${lacks:-memory}: " "$dir/stderr")" = 1 ] || wrong "does not say why"
}
for how in "" "--plan $dir/plan.yaml"; do
    # shellcheck disable=SC2086
    does_not_fit "$yaml" --devices "$cluster" --set system.memory=50KiB --json $how
    grep -q '"oom": *\["' "$dir/stdout" || wrong "names no device"
done
sed 's/alpha,/&disk_space: 100 KB,/' "$cluster" >"$dir/small.yaml"
lacks='disk space'
does_not_fit "$yaml" --devices "$dir/small.yaml" --plan "$dir/plan.yaml" --json
grep -q 'alpha lacks .* on its disk: 97.7 KiB are free' "$dir/stderr" || wrong "does not say whose disk"
lacks=memory

# Bytes that a profile says: layers that keep 10 MB more of each sample are too much for these devices.
sed 's/activations: /&1000/' "$dir/profile.yaml" >"$dir/larger.yaml"
works simulate "$yaml" --profile "$dir/profile.yaml" --bytes profile --plan "$dir/plan.yaml" --json
works simulate "$yaml" --profile "$dir/larger.yaml" --plan "$dir/plan.yaml" --json
does_not_fit "$yaml" --profile "$dir/larger.yaml" --bytes profile --plan "$dir/plan.yaml" --json
expect 2 "--bytes some: ledger or profile" simulate "$yaml" --devices "$cluster" --bytes some
expect 2 "--schedule 2f2b: 1f1b, gpipe or sequential" simulate "$yaml" --devices "$cluster" --schedule 2f2b
sed '/gamma/d' "$cluster" >"$dir/two.yaml"
expect 2 "plan.yaml: the plan is for 3 ranks, the profile or cluster has 2 devices" simulate "$yaml" --plan "$dir/plan.yaml" --devices "$dir/two.yaml"
cp "$dir/two.yaml" "$dir/kept.yaml"
expect 2 "two.yaml is read and would be replaced" simulate "$yaml" --devices "$dir/two.yaml" -o "$dir/../$(basename "$dir")/two.yaml"
cmp -s "$dir/two.yaml" "$dir/kept.yaml" || wrong "replaced what it reads"
works plan "$yaml" --devices "$cluster" --set 'system.groups=[3]' -o "$dir/alike.yaml"
grep -q '^model: "' "$dir/alike.yaml" || wrong "a plan does not say of which model it is"
sed 's/\[0, 1, 2\]/[0]/; s/shares: .*/shares: [1]/; /bytes:/d; s/^cached_shares:.*//; s/^cached:/left_out: [1, 2]\n&/' "$dir/alike.yaml" >"$dir/alone.yaml"
works simulate "$yaml" --plan "$dir/alone.yaml" --devices "$cluster"
expect 2 "leaves nobody out; the given plan is 1 (ranks by stage) and leaves out 2 of 3" simulate "$yaml" --plan "$dir/alone.yaml" \
    --devices "$cluster" --set system.name=eddl
expect 2 "the plan is 1-1-1 (ranks by stage), system.groups in $yaml is 2-1" simulate "$yaml" --plan "$dir/plan.yaml" --devices "$cluster" \
    --set 'system.groups=[2,1]'
sed 's/^model: ".*width 32/&0/' "$dir/plan.yaml" >"$dir/other.yaml"
expect 2 "other.yaml: the plan is of another model (" simulate "$yaml" --plan "$dir/other.yaml" --devices "$cluster"

# A profile is of one model, technique, optimizer and of some lengths; old files have no words for them, but bytes.
of_another() {
    expect 2 "profile.yaml: its times and bytes are of another $1" simulate "$yaml" --profile "$dir/profile.yaml" --set "$3"
    grep -q "profile again with this run's --set: pac profile $yaml --devices $cluster -o $dir/profile.yaml" "$dir/stderr" || wrong "does not say what to do"
    expect 2 "old.yaml: its times and bytes are of another $2" simulate "$yaml" --profile "$dir/old.yaml" --set "$3"
}
sed '/^shape:/d; /^setting:/d; s/, max_source.*}/}/' "$dir/profile.yaml" >"$dir/old.yaml"
works simulate "$yaml" --profile "$dir/old.yaml"
of_another 'model (' 'model' model.path=shape:t5-small
of_another 'technique setting (parallel, reduction 4) than this run'"'"'s (parallel, reduction 2)' 'technique setting or head (' technique.reduction=2
of_another 'technique (parallel)' 'technique (parallel)' technique.name=lora
of_another 'optimizer (adamw) than this run'"'"'s (sgd)' 'optimizer (adamw)' train.optimizer=sgd
expect 2 "eddl: one group" simulate "$yaml" --plan "$dir/plan.yaml" --devices "$cluster" --set system.name=eddl
expect 3 "$dir/none" simulate "$yaml" --devices "$dir/none"
expect 3 "$dir/none" simulate "$yaml" --devices "$cluster" --plan "$dir/none"
expect 3 "$dir/file/chart.svg" simulate "$yaml" --devices "$cluster" -o "$dir/file/chart.svg"
exit $failed
