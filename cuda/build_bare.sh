#!/bin/sh
# usage: cuda/build_bare.sh [DIR] [ARCH...]     from the root of the tree; DIR: build-bare; ARCH: 53 72 87 90 ..., default: that of this machine's GPU
#
# Ops, golden tests and benchmarks on a machine that has nvcc and a C compiler, and nothing else of what pac needs (no MPI, BLAS, HDF5,
# jansson, CMocka, meson): builds into DIR
#   test_ops                          every op of the table against the reference:   DIR/test_ops --device
#   test_device                       copies, precisions, larger sizes:              DIR/test_device
#   golden_{techniques,backbone,prune} what PyTorch says of T5, BART, BERT, DistilBERT, in tests/golden/fixtures: DIR/golden_techniques --device
#   cuda_bench                        each kernel beside the machine's limits:       DIR/cuda_bench
#   cuda_steps                        hybrid and cached steps of T5:                 DIR/cuda_steps
# NVCC, CC and JOBS (processes at a time) may be set. EMU=1 builds for the emulator of tests/cuda/emu instead (a C++ compiler and a BLAS
# in place of nvcc); OPT changes -O2.
set -eu
dir=${1:-build-bare}
[ $# -eq 0 ] || shift
mkdir -p "$dir"
c="${CC:-cc} -std=c11 ${OPT:--O2} -D_GNU_SOURCE -DPAC_REF_ONLY -Itests/bare -Itests/golden -Iinclude -Icuda -Isrc/tensor"
kernels="rows norm act loss train gather cast attn_fwd attn_bwd"
if [ "${EMU:-0}" = 1 ]; then
    c="$c -DPAC_CUDA_NAME='\"cuda-emu\"' -DPAC_CUBLAS_LINKED -Itests/cuda/emu"
    cu="${CXX:-c++} -std=c++17 ${OPT:--O2} -DPAC_CUBLAS_LINKED -Wno-unknown-pragmas -Itests/cuda/emu -Iinclude -Icuda ${BLAS_CFLAGS:-} -x c++"
    libs="${BLAS_LIBS:--lopenblas} -lstdc++ -lpthread -lm"
    emulator=$(ls tests/cuda/emu/*.cc)
else
    nvcc=${NVCC:-nvcc}
    command -v "$nvcc" >/dev/null || nvcc=/usr/local/cuda/bin/nvcc
    facts=$(sh cuda/toolkit.sh "$nvcc")
    lib=$(echo "$facts" | sed -n 3p)
    c="$c -DPAC_CUDA_NAME='\"cuda\"' -DPAC_CUBLAS_DIR='\"$lib\"' -isystem $(echo "$facts" | sed -n 2p)"
    gencode=
    for arch in "$@"; do
        gencode="$gencode -gencode arch=compute_$arch,code=sm_$arch"
    done
    if [ -z "$gencode" ]; then
        arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .)
        arch=${arch:-75}
        gencode="-gencode arch=compute_$arch,code=sm_$arch -gencode arch=compute_$arch,code=compute_$arch"
    fi
    cu="$nvcc -std=c++14 -O3 $gencode -Iinclude -Icuda"
    libs="$lib/libcudart_static.a -lstdc++ -lpthread -ldl -lrt -lm"
    emulator=
fi

# What every program has, then the programs' own files.
common="$(ls cuda/*.c src/core/*.c src/model/*.c src/tune/*.c src/io/file.c src/io/safetensors*.c src/tensor/*.c |
    grep -v -e /cpu_ -e tensor/blas.c -e /onednn.c -e /device_none.c -e /identity.c) tests/bare/json.c"
test_ops="$(ls tests/ops/*.c | grep -v /bench_ops.c) tests/bare/bench_ops.c"
test_device=tests/cuda/test_device.c
golden="tests/golden/golden.c tests/golden/network.c"
golden_techniques="$golden tests/golden/test_techniques.c"
golden_backbone="$golden tests/golden/test_backbone.c"
golden_prune="$golden tests/golden/test_prune.c"
cuda_bench=experiments/cuda-bench/cuda_bench.c
cuda_steps=experiments/cuda-bench/cuda_steps.c
programs="test_ops test_device golden_techniques golden_backbone golden_prune cuda_bench cuda_steps"

objects() { # FILE...
    for file in "$@"; do
        echo "$dir/$(echo "$file" | tr / -).o"
    done
}
{
    for name in $kernels; do
        echo "$cu -c cuda/$name.cu -o $dir/cuda-$name.cu.o"
    done
    for file in $emulator; do
        echo "$cu -c $file -o $(objects "$file")"
    done
    # shellcheck disable=SC2086
    for file in $(printf '%s\n' $common $test_ops $test_device $golden_techniques $golden_backbone $golden_prune $cuda_bench $cuda_steps | sort -u); do
        echo "$c -c $file -o $(objects "$file")"
    done
} | tr '\n' '\0' | xargs -0 -P "${JOBS:-$(nproc)}" -I{} sh -c '{}'

for program in $programs; do
    eval "own=\$$program"
    # shellcheck disable=SC2046,SC2086,SC2154
    ${CC:-cc} $(objects $own $common $emulator) "$dir"/cuda-*.cu.o $libs -o "$dir/$program"
done
echo "built in $dir: $programs"
