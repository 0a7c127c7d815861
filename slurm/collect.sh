#!/bin/sh
# usage: slurm/collect.sh DIR PAC      (a job that submit.sh submits; by hand at any time)
#
# DIR/table.md of what is there: seconds of training in the shape of the paper's Table 2 (mean over seeds; a word where a cell did not end
# well), then what pac report says of the runs that did. DIR/report holds its plots.
# Exit status: 0, or 1 if a cell did not end with 0 or 4 (what does not fit is an answer), or pac's if the runs cannot be compared. The
# table is there in any case, and names what is missing.
set -eu
out=$1 pac=$2

# model, task, technique, system, then seconds or a word; a line a cell
results() {
    sed 1d "$out/cells.tsv" | while IFS="$(printf '\t')" read -r name _ _ model task technique system _ _; do
        word=missing
        [ ! -f "$out/status/$name" ] || word=$(awk -F '\t' '{ print $1 == 0 ? "done" : $1 == 4 ? "OOM" : $3 " (" $1 ")" }' "$out/status/$name")
        [ "$word" != "done" ] || word=$(training "$out/runs/$name")
        printf '%s\t%s\t%s\t%s\t%s\n' "$model" "$task" "$technique" "$system" "$word"
    done
}

# Seconds of all epochs, and of moving the cache between them.
training() {
    { grep -s '"event":"epoch"' "$1/metrics.jsonl" | sed 's/.*"seconds":\([-+0-9.eE]*\).*/\1/'
      [ ! -f "$1/result.json" ] || sed -n 's/.*"seconds_redistribute":\([-+0-9.eE]*\).*/\1/p' "$1/result.json"
    } | awk '{ s += $1 } END { if (s > 0) printf "%.6f", s; else printf "missing" }'
}

# Rows technique and system, columns model and task, each in the order of the grid.
matrix() {
    awk -F '\t' '
    function shown(s) { return s < 600 ? sprintf("%.2f s", s) : s < 36000 ? sprintf("%.1f min", s / 60) : sprintf("%.2f h", s / 3600) }
    {
        row = $3 " | " $4; column = $1 " " $2
        if (!(row in row_seen)) { row_seen[row] = 1; rows[++nrows] = row }
        if (!(column in column_seen)) { column_seen[column] = 1; columns[++ncolumns] = column }
        at = row SUBSEP column
        if ($5 + 0 > 0) { sum[at] += $5; n[at]++ }
        else word[at] = $5
    }
    END {
        line = "| technique | system |"; rule = "|---|---|"
        for (c = 1; c <= ncolumns; c++) { line = line " " columns[c] " |"; rule = rule "---:|" }
        print line; print rule
        for (r = 1; r <= nrows; r++) {
            line = "| " rows[r] " |"
            for (c = 1; c <= ncolumns; c++) {
                at = rows[r] SUBSEP columns[c]
                text = at in n ? shown(sum[at] / n[at]) : ""
                if (at in word) text = text (text == "" ? "" : ", ") word[at]
                line = line " " text " |"
            }
            print line
        }
    }' "$out/results.tsv"
}

results >"$out/results.tsv"
set --
for name in $(sed 1d "$out/cells.tsv" | cut -f1); do
    ! grep -qs '^0	' "$out/status/$name" || set -- "$@" "$out/runs/$name"
done
{
    echo "# Seconds of training"
    echo
    matrix
    echo
    echo "All epochs and, where there is one, the redistribution of the cache; mean over seeds. OOM: the plan does not fit."
} >"$out/table.new"
status=0
if [ $# -gt 0 ]; then
    printf '\n# Runs\n\n' >>"$out/table.new"
    said=$("$pac" report "$@" -o "$out/report" --quiet 2>&1) || status=$?
    printf '%s\n' "$said"
    if [ "$status" = 0 ]; then
        { grep '^|' "$out/report/report.md"; printf '\nWhat the columns mean, and plots: report/report.md.\n'; } >>"$out/table.new"
    else
        printf 'They could not be compared (%s):\n\n    %s\n' "$status" "$(printf '%s\n' "$said" | tail -n 1)" >>"$out/table.new"
    fi
fi
mv "$out/table.new" "$out/table.md"
[ "$status" = 0 ] || exit "$status"
! grep -qE '	(missing|.*\([0-9]+\))$' "$out/results.tsv"
