#!/bin/sh
# usage: check_dependencies.sh [ROOT]     exit 1 and one line "file:line: what is wrong" for each fault of the tree
#
# The rules of docs/ARCHITECTURE.md. Its table of rooms is read by this script, so the words and the check cannot drift apart:
# a folder includes only headers of the rooms that its row names. Then: foreign libraries in one room each, printing and exit
# only in src/cli, short files, every source file listed in its folder's meson.build, no notes to self, no path of one machine.
# tests/tree/plant.sh plants one fault of each kind and expects it to be found.
set -eu
export LC_ALL=C
cd "${1:-$(dirname "$0")/..}"
map=docs/ARCHITECTURE.md
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Program files of the given folders.
sources() {
    for folder in "$@"; do
        [ -d "$folder" ] && find "$folder" -type f \( -name '*.c' -o -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' \)
    done | sort
}

# Everything that a person wrote: text of the tree, without what is built, fetched or generated.
texts() {
    for folder in .ci src planner cuda include tests scripts docs data experiments slurm; do
        [ -d "$folder" ] && find "$folder" -type f ! -path '*/fixtures/*' ! -path '*/__pycache__/*' ! -name '*.jsonl' ! -name '*.tsv'
    done | sort
    find . -maxdepth 1 -type f ! -name '.git*' | sort
}

# Includes, printing and exit: one pass over all sources, comments taken out first.
check_includes() {
    # shellcheck disable=SC2046
    awk -v map="$map" -v list="$scratch/files" '
    function fault(text) { print FILENAME ":" FNR ": " text }
    function trim(s) { gsub(/[` \t]/, "", s); return s }
    function room_of(path,  p) {
        if (path ~ /^include\/pac\//) { sub(/^include\/pac\//, "", path); return path in owner ? owner[path] : "include" }
        split(path, p, "/")
        return p[1] == "src" || p[1] == "tests" ? p[1] "/" p[2] : p[1]
    }
    # A row of the map: | `room` | headers | may include |
    function read_row(line,  cell, word, n, i) {
        split(line, cell, "|")
        room = trim(cell[2])
        rooms[room] = 1
        gsub(/[`,]/, " ", cell[3]); gsub(/[`,]/, " ", cell[4])
        n = split(cell[3], word, " ")
        for (i = 1; i <= n; i++) {
            if (word[i] in owner) fault(word[i] " has two owners")
            owner[word[i]] = room
        }
        n = split(cell[4], word, " ")
        for (i = 1; i <= n; i++) may[room, word[i]] = 1
    }
    function without_comments(line,  out, at) {
        out = ""
        while (line != "") {
            if (in_comment) {
                at = index(line, "*/")
                if (!at) return out
                line = substr(line, at + 2); in_comment = 0
            }
            at = index(line, "/*")
            if (!at) { sub(/\/\/.*/, "", line); return out line }
            out = out substr(line, 1, at - 1); line = substr(line, at + 2); in_comment = 1
        }
        return out
    }
    function allowed(from, header,  to, short) {
        to = owner[header]; short = to; sub(/^src\//, "", short)
        return to == from || (from, header) in may || (from, short) in may || (from, "everything") in may
    }
    function check_public(room, header) {
        if (!(header in owner)) fault("pac/" header " belongs to no room in " map)
        else if (room !~ /^tests/ && room != "include" && !allowed(room, header))
            fault(room " may not include pac/" header ", which belongs to " owner[header] " (" map ")")
    }
    function check_local(header,  dir) {
        dir = FILENAME; sub(/[^\/]*$/, "", dir)
        if (FILENAME ~ /^tests\//) return
        if (header ~ /\//) fault("\"" header "\" is a private header of another room")
        else if (!((dir header) in file) && !((dir header ".in") in file)) fault("\"" header "\" is not in " dir)
    }
    function check_foreign(room, header,  h) {
        for (h in only_in)
            if (header ~ ("^" h "$") && index(" " only_in[h] " ", " " room " ") == 0)
                fault("<" header "> belongs in " only_in[h] " only")
    }
    BEGIN {
        only_in["mpi\\.h"] = "src/parallel tests/mpi"; only_in["hdf5(_hl)?\\.h"] = "src/io"
        only_in["(cuda|cublas).*\\.h"] = "cuda tests/cuda"; only_in["cblas\\.h"] = "src/tensor tests/cuda tests/bench"; only_in["yaml\\.h"] = "src/io"
        only_in["oneapi/dnnl/.*"] = "src/tensor"
        only_in["(sentencepiece|pcre2|utf8proc).*"] = "src/data"
        word = "(^|[^A-Za-z0-9_])"
        while ((getline name < list) > 0) file[name] = 1
    }
    FILENAME == map { if ($0 ~ /^\| `[a-z\/]+` \|/) read_row($0); next }
    FNR == 1 {
        in_comment = 0; room = room_of(FILENAME)
        if (FILENAME ~ /^include\// && room == "include") fault("this header belongs to no room in " map)
        else if (FILENAME !~ /^tests\// && !(room in rooms)) fault(room " is no room in " map)
    }
    {
        line = without_comments($0)
        if (match(line, /^[ \t]*#[ \t]*include[ \t]*["<][^">]*[">]/)) {
            header = substr(line, RSTART, RLENGTH); quoted = header ~ /"/
            sub(/^[^"<]*["<]/, "", header); sub(/[">]$/, "", header)
            if (quoted && header ~ /^pac\//) check_public(room, substr(header, 5))
            else if (quoted) check_local(header)
            else check_foreign(room, header)
            next
        }
        if (FILENAME ~ /^(tests|src\/cli)\//) next
        if (line ~ (word "(v?printf|puts|putchar|perror)[ \t]*\\(") || line ~ (word "(stdout|stderr)([^A-Za-z0-9_]|$)"))
            fault("printing belongs in src/cli (libraries log through pac/log.h)")
        if (line ~ (word "(_?_?exit|_Exit|quick_exit|abort)[ \t]*\\(") && FILENAME != "src/parallel/world.c")
            fault("exit belongs in src/cli (libraries return pac_err)")
    }' "$map" $(cat "$scratch/sources")
}

# The headers that the map names exist.
check_map() {
    # shellcheck disable=SC2016
    for name in $(grep -E '^\| `[a-z/]+` \|' "$map" | cut -d'|' -f3 | tr -d '`,'); do
        [ -f "include/pac/$name" ] || echo "$map:1: include/pac/$name does not exist"
    done
}

check_lengths() {
    sources src planner cuda include | check_length_of 500
    texts | grep -E '\.(sh|py)$' | check_length_of 500
    sources tests | check_length_of 800
}

check_length_of() {
    while read -r path; do
        lines=$(wc -l <"$path")
        [ "$lines" -le "$1" ] || echo "$path:$1: $lines lines, at most $1: split it"
    done
}

check_listed() {
    sources src planner cuda tests | grep -v -E '\.(h|cuh)$' | while read -r path; do
        name=${path##*/}
        stem=${name%.*}
        folder=${path%/*}
        grep -qsE "'($name|$stem|${stem#test_})'" "$folder/meson.build" || echo "$path:1: not listed in $folder/meson.build"
    done
}

check_words() {
    texts | tr '\n' '\0' | xargs -0 grep -nHIE '(^|[^A-Za-z])(T[O]DO|FIX[M]E|XX[X]|HA[C]K)([^A-Za-z]|$)' | sed 's/$/   <- finish it or open an issue/'
    texts | tr '\n' '\0' | xargs -0 grep -nHIE '(^|[^A-Za-z0-9_.$}~*-])/([h]ome|[r]oot|[w]ork|[U]sers|[o]pt|[m]nt)/[A-Za-z]' |
        sed 's/$/   <- a path of one machine/'
}

[ -f "$map" ] || { echo "$map: missing" >&2; exit 1; }
sources src planner cuda include tests >"$scratch/sources"
{ cat "$scratch/sources"; find src planner -name '*.h.in'; } >"$scratch/files"
{
    check_includes
    check_map
    check_lengths
    check_listed
    check_words
} >"$scratch/found"
cat "$scratch/found"
count=$(wc -l <"$scratch/found")
[ "$count" -eq 0 ] || { echo "$count faults against $map" >&2; exit 1; }
