#!/bin/sh
# Too little memory or disk ends with 4 and says by how much and what would help; a loss that is not finite ends with 5.
set -u
. "$(dirname "$0")/lib.sh"

lacks="no plan was found that fits"
[ "$ranks" != 1 ] || lacks=" MiB, the budget is 1.0 KiB" # a device alone is not planned for
expect 4 "$lacks" train "$yaml" --set system.memory=1KiB
[ "$ranks" = 1 ] || grep -q ' (1.0 KiB) lacks .* MiB' "$dir/stderr" || wrong "does not say by how much"
expect 5 "not finite" train "$yaml" --set train.optimizer=sgd --set train.lr=1000 --set train.clip=0 --set train.epochs=9 \
    --set "cache.dir=$dir/other"
expect 5 "not finite" train "$yaml" --set train.optimizer=sgd --set train.lr=1000 --set train.clip=0 --set train.epochs=9 --set cache=none
PAC_TEST_DISK_FREE=1000
export PAC_TEST_DISK_FREE
for how in allgather shard; do # keep: then the planner cannot do without a cache
    expect 4 "ways out: " train "$yaml" --set cache.keep=true --set "cache.redistribute=$how"
    cp "$dir/stderr" "$dir/refused"
    grep -q 'needs [0-9]* bytes .* where [0-9]* bytes .* are free' "$dir/stderr" || wrong "does not say by how much"
    [ ! -e "$dir/cache" ] || [ -z "$(find "$dir/cache" -type f)" ] || wrong "left files behind"
done
works train "$yaml" --quiet --set cache=none

! grep -q 'cache\.[dr][a-z]*: [bis]' "$dir/refused" || wrong "names ways that do not help"

# With a byte less than is needed smaller types are named, and suffice. A device alone is not profiled, so it needs as much each time.
if [ "$ranks" = 1 ]; then
    need=$(grep -o 'needs [0-9]* bytes' "$dir/refused" | grep -o '[0-9]*')
    PAC_TEST_DISK_FREE=$((need - 1))
    expect 4 "ways out: cache.dtype: bf16, cache.dtype: i8, " train "$yaml" --set cache.keep=true --set cache.redistribute=shard
    for type in bf16 i8; do
        works train "$yaml" --quiet --set cache.keep=true --set cache.redistribute=shard --set "cache.dtype=$type"
        rm -rf "$dir/cache"
    done
fi
exit $failed
