#!/bin/sh
# usage: overlap.sh [DIR] [options]      messages and sums behind the computation: two namespaces with a shaped link (root). `--help`.
set -eu
cd "$(dirname "$0")/../.."
export PYTHONDONTWRITEBYTECODE=1
exec python3 experiments/bench/overlap.py "$@"
