#!/bin/sh
# usage: run.sh [DIR] [options]      steps of pac beside PyTorch, transformers and PEFT: a table, DIR/results.jsonl, DIR/MODEL.svg
# PYTHON names a Python with torch, transformers and peft. Measured lines stay in DIR (runs/bench); run again to go on. `run.sh --help`.
set -eu
cd "$(dirname "$0")/../.."
export PYTHONDONTWRITEBYTECODE=1
exec python3 experiments/bench/steps.py "$@"
