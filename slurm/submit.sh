#!/bin/sh
# usage: slurm/submit.sh [--test-only] [-o DIR] GRID [SBATCH OPTION...]
#
# Submits a grid: one array job for each number of nodes that its cells need (one rank a node), and a job that waits for them and makes
# one table of what there is, DIR/table.md (DIR: runs/ and the grid's name). Submitted again, only the cells run that did not end with 0.
# Further options go to sbatch: slurm/submit.sh slurm/paper.grid --partition=edge
# Start it where the paths of the grid begin (the root of the project). PAC names the program (build/pac), on all nodes the same.
# Exit status: 0 submitted, 2 command line or grid, 3 a file is missing, else sbatch's.
set -eu
usage() { sed -n 's/^# usage: /usage: /p' "$0" >&2; exit 2; }
fail() { status=$1; shift; echo "submit: $*" >&2; exit "$status"; }

test_only='' out=''
while [ $# -gt 0 ]; do
    case $1 in
    --test-only) test_only=--test-only ;;
    -o) [ $# -ge 2 ] || usage; out=$2; shift ;;
    -*) usage ;;
    *) break ;;
    esac
    shift
done
[ $# -ge 1 ] || usage
grid=$1
shift

here=$(cd "$(dirname "$0")" && pwd)
pac=${PAC:-$here/../build/pac}
[ -r "$grid" ] || fail 3 "$grid: cannot be read"
[ -x "$pac" ] || fail 3 "$pac: the program is not there (build it, or set PAC)"
command -v sbatch >/dev/null || fail 3 "sbatch is not installed"
pac=$(cd "$(dirname "$pac")" && pwd)/${pac##*/}
name=${grid##*/}
out=${out:-runs/${name%.grid}}

cells=$(mktemp)
trap 'rm -f "$cells"' EXIT
awk -f "$here/expand.awk" "$grid" >"$cells" || exit 2
run=$(sed -n '1s/^# //p' "$cells")
[ -r "$run" ] || fail 3 "$run: cannot be read (the grid names it)"
mkdir -p "$out/logs" "$out/status"
out=$(cd "$out" && pwd)
[ ! -f "$out/cells.tsv" ] || cmp -s "$cells" "$out/cells.tsv" || fail 2 "$out holds the results of another grid: choose another -o DIR"
cp "$cells" "$out/cells.tsv"

# Numbers of the cells on $1 nodes that have not ended with 0: the line of cells.tsv behind its first. "1,2,5"
waiting() {
    sed 1d "$out/cells.tsv" | awk -F '\t' -v nodes="$1" -v dir="$out/status" '$2 == nodes {
        status = ""
        path = dir "/" $1
        getline status <path
        close(path)
        if (status !~ /^0\t/) list = list (list == "" ? "" : ",") NR
    } END { print list }'
}

jobs=''
limit=$(sed 1d "$out/cells.tsv" | cut -f3 | sort -u)
[ "$limit" = - ] || set -- --time="$limit" "$@"
for nodes in $(sed 1d "$out/cells.tsv" | cut -f2 | sort -un); do
    list=$(waiting "$nodes")
    [ -n "$list" ] || continue
    # USR1 a minute before the time limit: cell.sh ends the run and says so.
    job=$(sbatch $test_only --parsable --job-name="pac-${name%.grid}-$nodes" --array="$list" --nodes="$nodes" --ntasks-per-node=1 --exclusive \
        --mem=0 --signal=B:USR1@60 --output="$out/logs/%A_%a.log" "$@" "$here/cell.sh" "$out" "$pac") || exit $?
    [ -n "$test_only" ] || echo "job ${job%%;*}: $(echo "$list" | tr ',' '\n' | wc -l) cells on $nodes nodes each"
    jobs="$jobs:${job%%;*}"
done
[ -n "$test_only" ] || [ -z "$jobs" ] || set -- --dependency="afterany$jobs" "$@"
job=$(sbatch $test_only --parsable --job-name="pac-${name%.grid}-table" --nodes=1 --ntasks=1 --output="$out/logs/table.log" "$@" \
    "$here/collect.sh" "$out" "$pac") || exit $?
[ -n "$test_only" ] || echo "job ${job%%;*}: the table, $out/table.md"
