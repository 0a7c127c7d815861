#!/bin/sh
# What `pac plan` says would make an impossible plan possible is applied as printed, and must then plan; a little less must not.
set -u
. "$(dirname "$0")/lib.sh"

cat >"$dir/shape.yaml" <<YAML
model: {path: "shape:t5-base"}
task: {name: mrpc, train: $dir/none.tsv, max_source: 128, max_target: 8}
technique: {name: parallel}
train: {epochs: 3, batch: 16}
output: $dir/out
YAML
shape=$dir/shape.yaml

# cluster ORIN0 ORIN1 ANNA BEN, MiB each
cluster() {
    cat >"$dir/cluster.yaml" <<YAML
devices:
  - {name: orin-0, type: jetson-orin-nano, memory: $1 MiB}
  - {name: orin-1, type: jetson-orin-nano, memory: $2 MiB}
  - {name: anna, type: laptop, memory: $3 MiB}
  - {name: ben, type: laptop, memory: $4 MiB, flops: 250 GFLOP/s}
network: {topology: switch, bandwidth: 1 Gbit/s, latency: 200 us}
YAML
}

# What the message in $dir/refusal says that a device lacks, or 0.
lack() {
    amount=$(grep -o "$1 ([0-9.]* MiB) lacks [0-9.]* MiB" "$dir/refusal" | sed 's/.*lacks \([0-9.]*\) MiB/\1/')
    echo "${amount:-0}"
}

more() {
    awk -v a="$1" -v b="$2" -v c="$3" 'BEGIN { printf "%.1f", a + b - c }'
}

# The budgets of $orin0 ... with what is lacking, device $1 with $2 MiB less.
raised() {
    less0=0 less1=0 less2=0 less3=0
    case $1 in orin-0) less0=$2 ;; orin-1) less1=$2 ;; anna) less2=$2 ;; ben) less3=$2 ;; esac
    cluster "$(more "$orin0" "$(lack orin-0)" $less0)" "$(more "$orin1" "$(lack orin-1)" $less1)" \
        "$(more "$anna" "$(lack anna)" $less2)" "$(more "$ben" "$(lack ben)" $less3)"
}

most_lacking() {
    for name in orin-0 orin-1 anna ben; do echo "$(lack $name) $name"; done | sort -n | tail -n 1 | sed 's/.* //'
}

# Every line of the refusal that says --set is pasted behind the command that was refused, and suffices; budgets are among them.
pasted() {
    grep '^ *--set ' "$dir/refusal" >"$dir/lines"
    sed "s/^ *--set //; s/'//g" "$dir/lines" >"$dir/ways"
    grep -q 'system.memory=' "$dir/ways" || wrong "no line of budgets to paste"
    while read -r line; do
        eval "works \"\$@\" $line"
    done <"$dir/lines"
}

# applied ORIN0 ORIN1 ANNA BEN SET...: refused by so much; with so much more it plans.
applied() {
    orin0=$1 orin1=$2 anna=$3 ben=$4
    shift 4
    cluster "$orin0" "$orin1" "$anna" "$ben"
    expect 4 'no plan was found that fits' plan "$shape" --devices "$dir/cluster.yaml" "$@"
    cp "$dir/stderr" "$dir/refusal"
    grep -q 'smallest change of memory found: ' "$dir/refusal" || wrong "found no change of memory"
    raised none 0
    works plan "$shape" --devices "$dir/cluster.yaml" "$@"
    cluster "$orin0" "$orin1" "$anna" "$ben"
    pasted plan "$shape" --devices "$dir/cluster.yaml" "$@"
}

# Words of configuration, in the order in which the refusal names them.
names() {
    got=$(grep -v '^system.memory\|^train' "$dir/ways" | tr '\n' ' ')
    [ "$got" = "$1" ] || wrong "names '$got' instead of '$1'"
}

# The named value of a key plans on the cluster that was refused.
named() {
    key=$1
    shift
    value=$(sed -n "s/.*--set $key=\([0-9]*\).*/\1/p" "$dir/refusal")
    [ -n "$value" ] || wrong "names no $key"
    cluster "$orin0" "$orin1" "$anna" "$ben"
    works plan "$shape" --devices "$dir/cluster.yaml" "$@" --set "$key=$value"
}

for technique in parallel lora full; do
    applied 300 300 250 200 --set "technique.name=$technique" --set cache=none
    raised "$(most_lacking)" 1
    expect 4 'no plan was found that fits' plan "$shape" --devices "$dir/cluster.yaml" --set "technique.name=$technique" --set cache=none
done
applied 300 300 250 200
names 'model.stream=true model.dtype=bf16 '
applied 350 290.5 260 210 --set train.optimizer=sgd
applied 420 400 300 200 --set technique.name=lora --set cache=none --set train.microbatches=4
grep -q '^train.recompute=true$' "$dir/ways" || wrong "does not name train.recompute"
applied 300 300 250 2500 --set technique.name=full --set cache=none

# Other ways are said with a number, and only where they are true.
applied 304.0 415.1 257.5 203.2 --set cache=none --set train.microbatches=4
named train.microbatches --set cache=none
applied 304.0 415.1 257.5 202.9 --set cache=none
named train.batch --set cache=none
applied 300 300 250 200 --set cache=none --set train.microbatches=4
! grep -q 'set train' "$dir/refusal" || wrong "names a way that does not help"

# Groups, the paper's planner and a plan's file make do with the same lines; plan and simulate say the same.
cluster 400 400 400 400
refused() {
    expect 4 'the plan does not fit' "$@"
    cp "$dir/stderr" "$dir/refusal"
    pasted "$@"
}
refused plan "$shape" --devices "$dir/cluster.yaml" --set 'system.groups=[2,2]'
names 'model.stream=true model.dtype=bf16 system.groups=auto '
cp "$dir/ways" "$dir/of_plan"
status=0
start simulate "$shape" --devices "$dir/cluster.yaml" --set 'system.groups=[2,2]' || status=$?
[ "$status" = 4 ] || wrong "simulate ends with $status"
cp "$dir/stderr" "$dir/refusal"
pasted simulate "$shape" --devices "$dir/cluster.yaml" --set 'system.groups=[2,2]'
cmp -s "$dir/ways" "$dir/of_plan" || wrong "plan says $(cat "$dir/of_plan"), simulate $(cat "$dir/ways")"
refused plan "$shape" --devices "$dir/cluster.yaml" --set 'system.groups=[2,2]' --set train.microbatches=1 --set cache=none --set system.memory=590MiB
grep -q '^train.microbatches=auto$' "$dir/ways" || wrong "does not say that other micro-batches fit"
refused plan "$shape" --devices "$dir/cluster.yaml" --set system.planner=paper
names 'model.stream=true model.dtype=bf16 cache=none system.planner=pac '
cluster 100 100 100 100
expect 4 'no plan fits' plan "$shape" --devices "$dir/cluster.yaml" --set system.planner=paper
cp "$dir/stderr" "$dir/refusal"
pasted plan "$shape" --devices "$dir/cluster.yaml" --set system.planner=paper
works plan "$shape" --devices "$dir/cluster.yaml" --set 'system.memory=4GiB' -o "$dir/plan.yaml"
status=0
start simulate "$shape" --devices "$dir/cluster.yaml" --plan "$dir/plan.yaml" || status=$?
[ "$status" = 4 ] || wrong "simulate ends with $status"
cp "$dir/stderr" "$dir/refusal"
pasted simulate "$shape" --devices "$dir/cluster.yaml" --plan "$dir/plan.yaml"

# EDDL has one plan, so the planner does not drop its cache.
cluster 6144 6144 4096 935
expect 4 'no plan was found that fits' plan "$shape" --devices "$dir/cluster.yaml" --rows 3668 --set system.name=eddl
cp "$dir/stderr" "$dir/refusal"
pasted plan "$shape" --devices "$dir/cluster.yaml" --rows 3668 --set system.name=eddl
grep -q '^cache=none$' "$dir/ways" || wrong "does not name cache: none"

# Disks: a way out is named where it suffices.
disk() {
    cluster 4096 4096 4096 4096
    sed -i "s/ MiB/&, disk_space: $1 MiB/" "$dir/cluster.yaml"
}
in_groups() {
    expect 4 'disk space: ' plan "$shape" --devices "$dir/cluster.yaml" --rows 1000 --set "system.groups=[2,2]" "$@"
    cp "$dir/stderr" "$dir/refusal"
    ways=$(grep -o 'cache\.[a-z]*=[a-z0-9]*' "$dir/refusal")
    for way in $ways; do
        works plan "$shape" --devices "$dir/cluster.yaml" --rows 1000 --set "system.groups=[2,2]" "$@" --set "$way"
    done
}
disk 1
in_groups
[ -z "$ways" ] || wrong "names ways that do not help: $ways"
need=$(sed -n 's/.*orin-0 lacks.*cache takes \([0-9.]*\) GiB.*/\1/p' "$dir/refusal" | awk '{ printf "%d", 1024 * $1 }')
[ "$(grep -c 'lacks .* on its disk' "$dir/refusal")" = 4 ] || wrong "does not name every disk"
disk $((need * 9 / 10))
in_groups
[ "$ways" = "cache.redistribute=shard
cache.dtype=bf16
cache.dtype=i8" ] || wrong "names '$ways'"
disk $((need * 28 / 100))
in_groups
[ "$ways" = cache.dtype=i8 ] || wrong "names '$ways'"
in_groups --set cache.dtype=bf16
[ "$ways" = cache.dtype=i8 ] || wrong "names '$ways'"

# A profile that was made with another type of cache: the run's own counts.
works profile "$shape" --devices "$dir/cluster.yaml" -o "$dir/profile.yaml"
expect 4 'disk space: ' plan "$shape" --profile "$dir/profile.yaml" --rows 1000 --set "system.groups=[2,2]"
works plan "$shape" --profile "$dir/profile.yaml" --rows 1000 --set "system.groups=[2,2]" --set cache.dtype=i8

sed 's/^cache_row: .*/cache_row: 7/' "$dir/profile.yaml" >"$dir/row.yaml"
expect 2 "row.yaml: cache_row: 7 is no type's row of 768 values" plan "$shape" --profile "$dir/row.yaml"

# Memory and disks are both too small: said together, and one line mends both.
disk $((need * 9 / 10))
for how in 'system.groups=[2,2]' 'system.groups=[1,1,1,1]' system.planner=paper; do
    refused plan "$shape" --devices "$dir/cluster.yaml" --rows 1000 --set system.memory=350MiB --set "$how"
    [ "$(grep -c 'lacks .* on its disk' "$dir/refusal")" = 4 ] || wrong "does not name the disks"
    grep -q '^cache\.[a-z]*=[a-z0-9]* --set system.memory=' "$dir/ways" || wrong "no line that mends both"
done

exit $failed
