#!/bin/sh
# usage: run.sh [--check]: the table to standard output, the plot to runs/paper/fig9/fig9.svg; fig9.py says what is simulated, README.md what came out.
exec python3 "$(dirname "$0")/fig9.py" "$@"
