#!/bin/sh
# usage: run.sh [--check]: the table to standard output, the plot to runs/paper/fig11/fig11.svg; fig11.py says what is simulated, README.md what came out.
exec python3 "$(dirname "$0")/fig11.py" "$@"
