#!/bin/sh
# usage: compiled.sh [VERSION ARCH...]     what nvcc compiled cuda/ for; skipped (77) where there was none
[ $# -gt 1 ] || { echo "SKIP nvcc, the runtime library or cuBLAS's headers were not found: nothing of cuda/ was compiled for a GPU"; exit 77; }
echo "CUDA $1, architectures $*"
