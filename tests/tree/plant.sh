#!/bin/sh
# usage: plant.sh ROOT     scripts/check_dependencies.sh finds what it is for.
# Plants one fault of each kind in a copy of the tree and expects exactly that fault to be named; a clean copy passes.
set -eu
root=$1
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
fresh() {
    rm -rf "$copy/tree"
    mkdir "$copy/tree"
    for part in .ci src planner cuda include tests scripts docs data experiments slurm; do
        [ -d "$root/$part" ] && cp -R "$root/$part" "$copy/tree/"
    done
    return 0
}
failed=0

# expect WORDS: the check of the copy ends with 1 and a line that contains WORDS.
expect() {
    if sh "$copy/tree/scripts/check_dependencies.sh" >"$copy/said" 2>&1; then
        echo "not noticed: $1"
        failed=1
    elif ! grep -qF -- "$1" "$copy/said"; then
        echo "expected '$1', said:"
        cat "$copy/said"
        failed=1
    fi
    fresh
}
plant() {
    printf '%b\n' "$2" >>"$copy/tree/$1"
}

fresh
sh "$copy/tree/scripts/check_dependencies.sh" || { echo "the clean copy fails"; exit 1; }
plant src/model/load.c '#include "pac/cache.h"'
expect "src/model may not include pac/cache.h"
plant include/pac/ops.h '#include "pac/model.h"'
expect "include/pac/ops.h:"
plant planner/cost.c '  #  include "pac/parallel.h"'
expect "planner may not include pac/parallel.h"
plant src/cache/read.c '#include "../parallel/internal.h"'
expect "private header of another room"
plant src/runtime/job.c '#include "paper.h"'
expect "is not in src/runtime/"
plant src/runtime/job.c '#include <mpi.h>'
expect "<mpi.h> belongs in src/parallel tests/mpi only"
plant tests/unit/test_core.c '#include <hdf5.h>'
expect "<hdf5.h> belongs in src/io only"
printf '/* a header without a room */\n' >"$copy/tree/include/pac/stray.h"
expect "include/pac/stray.h:1: this header belongs to no room"
mkdir "$copy/tree/src/attic"
printf 'int pac_attic;\n' >"$copy/tree/src/attic/attic.c"
expect "src/attic is no room"
plant src/core/mem.c 'static void say(void)\n{\n    printf("x");\n}'
expect "src/core/mem.c:$(($(wc -l <"$root/src/core/mem.c") + 3)): printing belongs in src/cli"
plant src/data/tsv.c 'static void say(FILE **f)\n{\n    *f = stderr;\n}'
expect "printing belongs in src/cli"
plant planner/plan.c 'static void leave(void)\n{\n    /* a comment */ exit(1);\n}'
expect "exit belongs in src/cli"
plant src/io/file.c "$(yes '/* long */' | head -n 500)"
expect "at most 500"
printf 'int pac_forgotten;\n' >"$copy/tree/src/io/forgotten.c"
expect "src/io/forgotten.c:1: not listed"
plant src/io/file.c "/* TO""DO: later */"
expect "finish it or open an issue"
plant docs/ARCHITECTURE.md "see /ho""me/somebody/pac"
expect "a path of one machine"
sed -i '/^| `src\/cache`/d' "$copy/tree/docs/ARCHITECTURE.md"
expect "src/cache is no room"

# Not faults: words in comments, names that only look alike.
plant src/core/mem.c '/* printf("x"); exit(1);\n   abort(); #include "pac/cli.h" */\nstatic int snprintf_exit(void);\nint pac_at_exit(void);'
sh "$copy/tree/scripts/check_dependencies.sh" || { echo "a comment was taken for a fault"; failed=1; }
exit $failed
