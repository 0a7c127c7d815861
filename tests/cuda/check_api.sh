#!/bin/sh
# usage: check_api.sh ROOT     cuda/ uses nothing newer than CUDA 10.2 outside of #if CUDART_VERSION >= NUMBER; exit 1 and one line for each fault
#
# A name of CUDA (cuda..., cublas..., CUBLAS_..., CUDA_R_..., __...) must be in api_10_2.txt, an #include one of three. Then one
# fault of each kind is planted in a copy, and must be found.
set -eu
root=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

check() {
    awk -v list="$root/tests/cuda/api_10_2.txt" '
    BEGIN { while ((getline line < list) > 0) if (line !~ /^#/) { n = split(line, word, " "); for (i = 1; i <= n; i++) known[word[i]] = 1 } }
    function without_text(line,  at) {
        gsub(/"([^"\\]|\\.)*"/, "", line)
        if (in_comment) { at = index(line, "*/"); if (!at) return ""; line = substr(line, at + 2); in_comment = 0 }
        while ((at = index(line, "/*")) > 0) {
            rest = substr(line, at + 2)
            if (index(rest, "*/")) line = substr(line, 1, at - 1) " " substr(rest, index(rest, "*/") + 2)
            else { in_comment = 1; line = substr(line, 1, at - 1) }
        }
        sub(/\/\/.*/, "", line)
        return line
    }
    function guarded(  i) { for (i = 1; i <= depth; i++) if (newer[i]) return 1; return 0 }
    FNR == 1 { depth = 0; in_comment = 0 }
    {
        source = $0
        line = without_text($0)
        if (line ~ /^[ \t]*#[ \t]*if/) { newer[++depth] = line !~ /[!|]/ && match(line, /CUDART_VERSION >= [0-9]+/) && substr(line, RSTART + 18, RLENGTH - 18) + 0 > 10020; next }
        if (line ~ /^[ \t]*#[ \t]*el/) { newer[depth] = 0; next }
        if (line ~ /^[ \t]*#[ \t]*endif/) { depth--; next }
        if (source ~ /^[ \t]*#[ \t]*include[ \t]*</ && source ~ /cu|thrust|cooperative|mma|nv/ && source !~ /<(cuda_runtime|cublas_v2|cuda_fp16)\.h>/ && !guarded())
            print FILENAME ":" FNR ": " source "   <- not of CUDA 10.2, or a library that needs C++17 later"
        if (guarded() || source ~ /^[ \t]*#[ \t]*include/) next
        while (match(line, /[A-Za-z_][A-Za-z0-9_]*/)) {
            name = substr(line, RSTART, RLENGTH)
            line = substr(line, RSTART + RLENGTH)
            if (name ~ /^(cuda[A-Z]|cublas|cu[A-Z]|CUBLAS_|CUDA_|CUDART|__|nvcuda$|cooperative_groups$|cub$|thrust$|constexpr$)/ && !(name in known))
                print FILENAME ":" FNR ": " name " is not in tests/cuda/api_10_2.txt"
        }
    }' "$@"
}

check "$root"/cuda/*.c "$root"/cuda/*.h "$root"/cuda/*.cu "$root"/cuda/*.cuh >"$scratch/faults"
cat "$scratch/faults"
[ ! -s "$scratch/faults" ] || exit 1

failed=0
expect() { # found|clean TEXT
    printf '%b\n' "$2" >"$scratch/planted.cu"
    said=$(check "$scratch/planted.cu")
    if [ "$1" = found ] && [ -z "$said" ]; then echo "not noticed: $2"; failed=1; fi
    if [ "$1" = clean ] && [ -n "$said" ]; then echo "wrongly refused: $2: $said"; failed=1; fi
}
expect found 'cudaMallocAsync(&p, n, s);'
expect found '#if CUDART_VERSION >= 11020\n#else\ncudaMallocAsync(&p, n, s);\n#endif'
expect clean '#if CUDART_VERSION >= 11020\ncudaMallocAsync(&p, n, s);\n#endif'
expect found '#if CUDART_VERSION >= 11020\n#endif\n__nv_bfloat16 x;'
expect found '#if CUDART_VERSION >= 10000\ncudaMallocAsync(&p, n, s);\n#endif'
expect found '#if !(CUDART_VERSION >= 11020)\ncudaMallocAsync(&p, n, s);\n#endif'
expect found '#include <cub/cub.cuh>'
expect found '#include <thrust/sort.h>'
expect found 'nvcuda::wmma::fill_fragment(c, 0);'
expect found 'int x = __reduce_add_sync(m, 1);'
expect found 'if constexpr (x)'
expect clean '/* cudaMallocAsync */ cudaMalloc(&p, n); f("cudaGraphLaunch");'
exit $failed
