# shellcheck shell=sh disable=SC2154
# Read by tests/slurm/run.sh: a Slurm cluster of virtual nodes on this host, in the temporary directory $dir, as root, without systemd.
# One munged, one slurmctld, and NODES slurmd, each with a name and a port of its own. Nothing outside $dir is touched: the programs'
# configuration, key, sockets, state and logs are there. stop_cluster ends everything that was started, by process id.

# Every process of the cluster, and every job in it: this directory is in its environment (grep and cut must not have it), or, for
# slurmstepd, which overwrites that, a file in it is open.
cluster_processes() {
    (
        mark="PAC_TEST_CLUSTER=$PAC_TEST_CLUSTER"
        unset PAC_TEST_CLUSTER
        {
            grep -lsF "$mark" /proc/[0-9]*/environ
            find /proc/[0-9]*/fd -maxdepth 1 -lname "$dir/cluster/*" 2>/dev/null
        } | cut -d/ -f3 | sort -u
    )
}

write_config() {
    host=$(hostname)
    cat >"$dir/cluster/slurm.conf" <<CONF
ClusterName=pac
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/cluster/munge.socket
CredType=cred/munge
TmpFS=$dir/cluster/tmp.%n
StateSaveLocation=$dir/cluster/state
SlurmdSpoolDir=$dir/cluster/spool.%n
SlurmctldPidFile=$dir/cluster/slurmctld.pid
SlurmdPidFile=$dir/cluster/slurmd.%n.pid
SlurmctldLogFile=$dir/cluster/slurmctld.log
SlurmdLogFile=$dir/cluster/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=3
SchedulerParameters=batch_sched_delay=0,defer_batch,sched_min_interval=100000,bf_interval=1
CONF
    i=1
    while [ $i -le "$nodes" ]; do
        echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + i)) CPUs=1 RealMemory=1000" >>"$dir/cluster/slurm.conf"
        i=$((i + 1))
    done
    echo "PartitionName=all Nodes=n[1-$nodes] Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO" >>"$dir/cluster/slurm.conf"
}

start_munge() {
    head -c 1024 /dev/urandom >"$dir/cluster/munge.key"
    chmod 400 "$dir/cluster/munge.key"
    munged --foreground --force --num-threads=2 --key-file="$dir/cluster/munge.key" --socket="$dir/cluster/munge.socket" \
        --pid-file="$dir/cluster/munged.pid" --log-file="$dir/cluster/munged.log" --seed-file="$dir/cluster/munged.seed" \
        >"$dir/cluster/munged.out" 2>&1 &
}

# Wait up to two minutes (a busy host is slow) until a command succeeds.
wait_for() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -le 600 ] || return 1
        sleep 0.2
    done
}

all_idle() {
    [ "$(sinfo --noheader --format=%D --states=idle)" = "$nodes" ]
}

no_jobs() {
    [ -z "$(squeue --noheader)" ]
}

start_cluster() {
    nodes=$1
    port=$((20000 + $$ % 10000))
    mkdir -p "$dir/cluster/state"
    chmod 755 "$dir" "$dir/cluster"
    export PAC_TEST_CLUSTER="$dir/cluster" SLURM_CONF="$dir/cluster/slurm.conf"
    write_config
    start_munge
    wait_for test -S "$dir/cluster/munge.socket" || return 1
    slurmctld -D -f "$SLURM_CONF" >"$dir/cluster/slurmctld.out" 2>&1 &
    i=1
    while [ $i -le "$nodes" ]; do
        mkdir -p "$dir/cluster/spool.n$i" "$dir/cluster/tmp.n$i"
        slurmd -D -N "n$i" -f "$SLURM_CONF" >"$dir/cluster/slurmd.n$i.out" 2>&1 &
        i=$((i + 1))
    done
    wait_for all_idle
}

stop_cluster() {
    [ -n "${PAC_TEST_CLUSTER-}" ] || return 0
    scancel --me 2>/dev/null && wait_for no_jobs
    for signal in TERM TERM KILL; do
        for process in $(cluster_processes); do
            kill -$signal "$process" 2>/dev/null
        done
        tries=0
        while [ -n "$(cluster_processes)" ] && [ $tries -lt 25 ]; do
            sleep 0.2
            tries=$((tries + 1))
        done
    done
}
