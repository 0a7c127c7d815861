#!/bin/sh
# usage: mpirun.sh RANKS PROGRAM [ARGUMENT...]
# mpirun for several ranks on this one machine: oversubscribed where there are fewer cores than ranks, not bound to cores, cores
# shared out as threads. On a real cluster use mpirun with a host file instead (README).
ranks=$1
shift
root=
[ "$(id -u)" = 0 ] && root=--allow-run-as-root
cores=$(nproc)
threads=$((cores / ranks))
[ "$threads" -ge 1 ] || threads=1
export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-$threads}"
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl="${OMPI_MCA_btl-self,vader}"
# shellcheck disable=SC2086
exec mpirun $root --oversubscribe -np "$ranks" "$@"
