#!/bin/sh
# usage: bare.sh ROOT BLAS_LIBDIR BLAS_INCLUDEDIR
# The script for machines without this project's libraries, with the emulator in place of nvcc: what it builds links without them, all
# golden fixtures agree on the (emulated) device, and the benchmark of steps learns.
set -eu
cd "$1"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
EMU=1 OPT=-O1 JOBS=${JOBS:-2} BLAS_CFLAGS="-I$3" BLAS_LIBS="-L$2 -lopenblas" sh cuda/build_bare.sh "$dir"
"$dir/golden_techniques" --device learned_all
"$dir/golden_backbone" --device
"$dir/golden_prune" --device
"$dir/cuda_steps" --models tests/golden/fixtures/t5v11 --precisions f32,bf16 --batch 2 --source 5 --target 3 --rounds 2 >"$dir/steps"
cat "$dir/steps"
[ "$(wc -l <"$dir/steps")" = 2 ]
[ "$(grep -c '"waits_inside": 0,' "$dir/steps")" = 2 ] || { echo "the host waited within a step"; exit 1; }
# the losses after each of the three phases fall
awk -F'[][]' '{ split($2, l, ","); if (!(l[1] + 0 > l[2] + 0 && l[2] + 0 > l[3] + 0)) exit 1 }' "$dir/steps"
# Cross-attention of one target token is absorbed (src/model/absorb.c): its products are one call for all heads, so no more than the plain ones.
"$dir/cuda_steps" --models tests/golden/fixtures/t5v11 --precisions f32 --batch 2 --source 30 --target 1 --rounds 2 >"$dir/absorbed"
cat "$dir/absorbed"
products() { sed -n 's/.*"products": \[\([0-9]*\).*/\1/p' "$1" | head -1; }
[ "$(products "$dir/absorbed")" -gt 0 ] && [ "$(products "$dir/absorbed")" -lt "$(products "$dir/steps")" ] || { echo "a product for each head"; exit 1; }
! ldd "$dir/golden_techniques" | grep -e libmpi -e libhdf5 -e libjansson -e libcmocka
