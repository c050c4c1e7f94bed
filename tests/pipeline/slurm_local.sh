#!/usr/bin/env bash
# A Slurm of one node for tests: all of it below a folder, no cgroups, no systemd. Needs root.
#   [SLURM_ACCOUNTING=1] slurm_local.sh start|stop|status DIR      then: export SLURM_CONF=DIR/slurm.conf PATH=DIR/bin:$PATH
# The node has two stand-in GPUs and more memory than is there. SLURM_PORT is the first of four ports (default 16817).
# With accounting there is a database (mariadbd) below the folder too, and slurmdbd before it.
set -euo pipefail
command=${1:?start, stop or status}
folder=$(realpath -m "${2:?the folder of the cluster}")
port=${SLURM_PORT:-16817}
host=$(hostname -s)
accounting=${SLURM_ACCOUNTING:-}
storage=accounting_storage/${accounting:+slurmdbd}
[ -n "$accounting" ] || storage+=none
export SLURM_CONF=$folder/slurm.conf

alive() { [ -s "$folder/$1.pid" ] && kill -0 "$(cat "$folder/$1.pid")" 2> /dev/null; }

configure() {
    mkdir -p "$folder"/{state,spool,log,bin}
    chmod 755 "$folder"
    [ -s "$folder/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
    for index in 0 1; do [ -e "$folder/gpu$index" ] || mknod "$folder/gpu$index" c 1 3 || touch "$folder/gpu$index"; done
    echo "Name=gpu File=$folder/gpu[0-1]" > "$folder/gres.conf"
    # Snakemake's plugin drops every SLURM_* variable, SLURM_CONF too, before it calls srun.
    printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" > "$folder/bin/srun"
    chmod +x "$folder/bin/srun"
    cat > "$SLURM_CONF" << EOF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=$storage
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
MinJobAge=7200
ReturnToService=0
KillWait=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
    [ -z "$accounting" ] || cat >> "$SLURM_CONF" << EOF
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((port + 2))
AccountingStoragePass=$folder/munge.socket
EOF
}

# The database, then slurmdbd, which makes its tables in it, then the name of the cluster.
account() {
    if [ ! -d "$folder/database" ]; then
        mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$folder/database" --skip-test-db \
            --auth-root-authentication-method=normal > "$folder/log/database.log" 2>&1
    fi
    # In a group of its own, or the pipe of whoever waits for this script would stay open as long as the database runs.
    alive mariadbd || {
        mariadbd --no-defaults --user="$(id -un)" --datadir="$folder/database" --bind-address=127.0.0.1 --port=$((port + 3)) \
            --socket="$folder/database.socket" --pid-file="$folder/mariadbd.pid" < /dev/null >> "$folder/log/database.log" 2>&1 &
    }
    for _ in $(seq 150); do
        mariadb-admin --no-defaults --socket="$folder/database.socket" ping > /dev/null 2>&1 && break
        sleep 0.2
    done
    (umask 077 && cat > "$folder/slurmdbd.conf") << EOF
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=$((port + 2))
SlurmUser=$(id -un)
LogFile=$folder/log/slurmdbd.log
PidFile=$folder/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((port + 3))
StorageUser=root
StorageLoc=slurm
EOF
    alive slurmdbd || slurmdbd
    for _ in $(seq 150); do
        sacctmgr --immediate add cluster local > "$folder/log/sacctmgr.log" 2>&1 && return
        grep -q "already exists" "$folder/log/sacctmgr.log" && return
        sleep 0.2
    done
    echo "error: slurmdbd did not come up; look into $folder/log" >&2
    exit 1
}

case $command in
    start)
        configure
        alive munged || munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
            --pid-file="$folder/munged.pid" --log-file="$folder/log/munged.log" --seed-file="$folder/munge.seed"
        [ -z "$accounting" ] || account
        alive slurmctld || slurmctld -f "$SLURM_CONF"
        alive slurmd || slurmd -f "$SLURM_CONF" -N "$host"
        for _ in $(seq 150); do
            if sinfo -h -o %T 2> /dev/null | grep -qE 'idle|mixed|alloc'; then exit 0; fi
            sleep 0.2
        done
        echo "error: Slurm did not come up; look into $folder/log" >&2
        exit 1
        ;;
    stop)
        # A job has time to end after scancel (KillWait), but nobody sees to that once the daemons are gone.
        scancel --signal=KILL --full --user "$(id -un)" 2> /dev/null || true
        scancel --user "$(id -un)" 2> /dev/null || true
        for _ in $(seq 25); do
            [ -n "$(squeue -h 2> /dev/null)" ] || break
            sleep 0.2
        done
        for name in slurmd slurmctld slurmdbd mariadbd munged; do
            alive $name || continue
            pid=$(cat "$folder/$name.pid")
            kill "$pid"
            for _ in $(seq 50); do
                kill -0 "$pid" 2> /dev/null || break
                sleep 0.2
            done
        done
        ;;
    status)
        for name in munged mariadbd slurmdbd slurmctld slurmd; do echo "$name $(alive $name && echo up || echo down)"; done
        sinfo || true
        ;;
    *)
        echo "error: $command: give start, stop or status" >&2
        exit 2
        ;;
esac
