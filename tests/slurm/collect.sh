#!/bin/sh
# usage: collect.sh PAC     slurm/collect.sh on cells made here, without Slurm: a run that is damaged or gone costs its own numbers and the
# comparison, never the table.
set -u
pac=$(realpath "$1")
cd "$(dirname "$0")/../.." || exit 1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

# cell TECHNIQUE STATUS WORD: one that ended so, with half a second of training
cell() {
    name=m-t-$1-eddl-s0
    mkdir -p "$dir/runs/$name" "$dir/status"
    printf '%s\t2\t-\tm\tt\t%s\teddl\t0\ttrain.seed=0\n' "$name" "$1" >>"$dir/cells.tsv"
    printf '%s\t3\t%s\n' "$2" "$3" >"$dir/status/$name"
    echo '{"event":"epoch","phase":"hybrid","epoch":1,"seconds":0.5,"samples":1,"tokens":1,"loss":1,"rank":0,"time":1}' \
        >"$dir/runs/$name/metrics.jsonl"
    printf 'model: {path: m}\ntechnique: {name: %s}\n' "$1" >"$dir/runs/$name/run.yaml"
}

# collects STATUS WORDS...: it ends so, and the table has each of the words
collects() {
    wanted=$1
    shift
    status=0
    rm -f "$dir/table.md"
    slurm/collect.sh "$dir" "$pac" >"$dir/said" 2>&1 || status=$?
    [ "$status" = "$wanted" ] || { echo "ended with $status instead of $wanted:"; cat "$dir/said"; failed=1; }
    for words in "$@"; do
        grep -qsF -- "$words" "$dir/table.md" || { echo "the table does not say '$words':"; cat "$dir/table.md"; failed=1; }
    done
}

echo '# run.yaml' >"$dir/cells.tsv"
cell full 0 done
cell lora 4 'does not fit'
times='| full | eddl | 0.50 s |'
collects 0 "$times" '| lora | eddl | OOM |' '| m-t-full-eddl-s0 | m | full |'
echo '{' >"$dir/runs/m-t-full-eddl-s0/run.yaml"
collects 3 "$times" 'They could not be compared (3)' 'run.yaml:2:1: not YAML'
rm "$dir/runs/m-t-full-eddl-s0/metrics.jsonl"
collects 3 '| full | eddl | missing |' 'They could not be compared (3)'
cell adapters 70 'fault of pac'
rm -r "$dir/status/m-t-full-eddl-s0"
collects 1 '| full | eddl | missing |' '| adapters | eddl | fault of pac (70) |'
exit $failed
