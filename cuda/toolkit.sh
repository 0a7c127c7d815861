#!/bin/sh
# usage: toolkit.sh NVCC      three lines: version of the CUDA toolkit that nvcc belongs to, its folder of headers, of libraries
set -eu
version=$("$1" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p')
# nvcc may be reached through links, or be a script that starts the one in the toolkit: ask it.
root=$("$1" --dryrun -x cu /dev/null -c -o /dev/null 2>&1 | sed -n 's/^#\$ TOP=//p')
[ -n "$root" ] || root=$(dirname "$(dirname "$(readlink -f "$(command -v "$1")")")")
for include in "$root/include" "$root"/targets/*/include; do
    [ -f "$include/cublas_v2.h" ] && [ -f "$include/cuda_runtime.h" ] && break
done
[ -f "$include/cublas_v2.h" ] || { echo "nvcc $version has no cublas_v2.h in $root" >&2; exit 1; }
for lib in "$root/lib64" "$root"/targets/*/lib "$root/lib"; do
    [ -f "$lib/libcudart_static.a" ] && break
done
[ -f "$lib/libcudart_static.a" ] || { echo "nvcc $version has no libcudart_static.a in $root" >&2; exit 1; }
printf '%s\n%s\n%s\n' "$version" "$(cd "$include" && pwd -P)" "$(cd "$lib" && pwd -P)"
