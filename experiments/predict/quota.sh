#!/bin/sh
# Control groups that make the ranks of one machine unequal: DIR/rank-N may use QUOTA[N] of a core in each period of 10 ms.
#   quota.sh make QUOTA...    prints the folder of the groups; needs root; version 2 or 1 of control groups
#   quota.sh enter FOLDER COMMAND...   the command in the group of this rank of mpirun
#   quota.sh drop FOLDER
set -eu
what=$1
shift
case $what in
make)
    period=10000
    if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
        dir=/sys/fs/cgroup/pac-predict
        echo +cpu >/sys/fs/cgroup/cgroup.subtree_control
        mkdir -p $dir
        echo +cpu >$dir/cgroup.subtree_control
        echo 10000 >$dir/cpu.weight # of the machine's other work, the ranks take what their quotas allow
    else
        dir=/sys/fs/cgroup/cpu/pac-predict
        mkdir -p $dir
        echo 262144 >$dir/cpu.shares
    fi
    n=0
    for quota in "$@"; do
        mkdir -p "$dir/rank-$n"
        us=$(awk "BEGIN { print int($quota * $period) }")
        if [ -f $dir/cpu.weight ]; then
            echo "$us $period" >"$dir/rank-$n/cpu.max"
        else
            echo $period >"$dir/rank-$n/cpu.cfs_period_us"
            echo "$us" >"$dir/rank-$n/cpu.cfs_quota_us"
        fi
        n=$((n + 1))
    done
    echo $dir
    ;;
enter)
    echo $$ >"$1/rank-${OMPI_COMM_WORLD_LOCAL_RANK:-0}/cgroup.procs"
    shift
    exec "$@"
    ;;
drop)
    rmdir "$1"/rank-* "$1"
    ;;
esac
