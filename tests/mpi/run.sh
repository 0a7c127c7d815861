#!/bin/sh
# usage: run.sh RANKS PROGRAM [ARGUMENT...]   runs a test under mpirun and returns its status.
# One machine, fewer cores than ranks, perhaps root: oversubscribe, do not bind, do not busy-wait, one thread per rank, stop after
# PAC_TEST_SECONDS (90). With PAC_TEST_STATUS=N it succeeds when the run ends with exactly that status.
ranks=$1
shift
root=
[ "$(id -u)" = 0 ] && root=--allow-run-as-root
export OMPI_MCA_btl="${OMPI_MCA_btl-self,vader}" OMPI_MCA_hwloc_base_binding_policy=none
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
export OMPI_MCA_odls_base_sigkill_timeout=0 # when a rank ends with an error, end the others at once
# shellcheck disable=SC2086
timeout --kill-after=5 "${PAC_TEST_SECONDS:-90}" mpirun $root --oversubscribe -np "$ranks" "$@"
status=$?
[ -z "$PAC_TEST_STATUS" ] && exit "$status"
[ "$status" = "$PAC_TEST_STATUS" ] && exit 0
echo "ended with $status instead of $PAC_TEST_STATUS" >&2
exit 1
