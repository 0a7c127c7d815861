#!/bin/sh
# usage: cuda/build_bare.sh [DIR] [ARCH...]     from the root of the tree; DIR: build-bare; ARCH: 53 72 87 90 ..., default: that of this machine's GPU
#
# The ops on a machine that has nvcc and a C compiler, and nothing else of what pac needs (no MPI, BLAS, HDF5, meson): builds into DIR
#   test_ops     every op of the table against the reference:  DIR/test_ops --device
#   test_device  copies, precisions, larger sizes:             DIR/test_device
#   cuda_bench   each kernel beside the machine's limits:      DIR/cuda_bench
# NVCC, CC and JOBS (processes at a time) may be set.
set -eu
dir=${1:-build-bare}
[ $# -eq 0 ] || shift
nvcc=${NVCC:-nvcc}
command -v "$nvcc" >/dev/null || nvcc=/usr/local/cuda/bin/nvcc
facts=$(sh cuda/toolkit.sh "$nvcc")
include=$(echo "$facts" | sed -n 2p)
lib=$(echo "$facts" | sed -n 3p)
gencode=
for arch in "$@"; do
    gencode="$gencode -gencode arch=compute_$arch,code=sm_$arch"
done
if [ -z "$gencode" ]; then
    arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .)
    arch=${arch:-75}
    gencode="-gencode arch=compute_$arch,code=sm_$arch -gencode arch=compute_$arch,code=compute_$arch"
fi
mkdir -p "$dir"

c="${CC:-cc} -std=c11 -O2 -D_GNU_SOURCE -DPAC_REF_ONLY -DPAC_CUDA_NAME='\"cuda\"' -DPAC_CUBLAS_DIR='\"$lib\"' -Iinclude -Icuda -Isrc/tensor -isystem $include"
{
    for name in rows norm act loss train gather cast attn_fwd attn_bwd; do
        echo "$nvcc -std=c++14 -O3 $gencode -Iinclude -Icuda -c cuda/$name.cu -o $dir/$name.o"
    done
    for file in cuda/*.c src/core/*.c $(ls src/tensor/*.c | grep -v -e /cpu_ -e /blas.c -e /onednn.c -e /device_none.c) tests/ops/*.c tests/cuda/test_device.c \
        experiments/cuda-bench/cuda_bench.c; do
        echo "$c -c $file -o $dir/$(echo "$file" | tr / -).o"
    done
} | tr '\n' '\0' | xargs -0 -P "${JOBS:-$(nproc)}" -I{} sh -c '{}'

link() { # PROGRAM OBJECT...
    program=$1
    shift
    # shellcheck disable=SC2046
    ${CC:-cc} "$@" "$dir"/rows.o "$dir"/norm.o "$dir"/act.o "$dir"/loss.o "$dir"/train.o "$dir"/gather.o "$dir"/cast.o "$dir"/attn_fwd.o \
        "$dir"/attn_bwd.o $(ls "$dir"/cuda-*.o "$dir"/src-*.o) "$lib/libcudart_static.a" -lstdc++ -lpthread -ldl -lrt -lm -o "$dir/$program"
}
# shellcheck disable=SC2046
link test_ops $(ls "$dir"/tests-ops-*.o)
link test_device "$dir/tests-cuda-test_device.c.o"
link cuda_bench "$dir/experiments-cuda-bench-cuda_bench.c.o"
echo "built $dir/test_ops, $dir/test_device, $dir/cuda_bench"
