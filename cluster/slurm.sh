#!/usr/bin/env bash
# A run on Slurm: a node for Ray's head, and the nodes of the two GPU pools, with the label steer-pool. From the
# repository's root, which every node must see, as the run's folder:
#
#   sbatch cluster/slurm.sh python -m pipelines.cli run pipelines/configs/gpu.yaml --resume /shared/runs/first
#
# The same command again goes on with the run. Set partitions, cards and node counts below to yours. The environment is
# .venv there (`bash cluster/install.sh .venv/bin/python gpu`), or the one whose bin folder STEER_BIN names;
# STEER_RAY_OPTIONS are more options of every `ray start`.
#
#SBATCH --job-name=steer
#SBATCH --output=steer-%j.log
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --partition=cpu --nodes=1 --ntasks-per-node=1 --cpus-per-task=8 --mem=32G
#SBATCH hetjob
#SBATCH --partition=gpu --nodes=4 --ntasks-per-node=1 --cpus-per-task=4 --gpus-per-node=1 --mem=24G
#SBATCH hetjob
#SBATCH --partition=gpu --nodes=2 --ntasks-per-node=1 --cpus-per-task=8 --gpus-per-node=2 --mem=48G
# 120 s before its time is up the batch shell gets SIGTERM: the run ends as with Ctrl-C, and its rows stay.
set -euo pipefail

if (($# == 0)); then
    echo "cluster/slurm.sh: name the command to run: sbatch cluster/slurm.sh python -m pipelines.cli run ..." >&2
    exit 2
fi
cd "$SLURM_SUBMIT_DIR"
export PATH="${STEER_BIN:-$PWD/.venv/bin}:$PATH"

# One token for this job's cluster: other users of these nodes could run code on it otherwise.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0

# Jobs may share a node, and so may two nodes of one job: ports differ by job and by group.
first_port=$((20000 + SLURM_JOB_ID % 1000 * 10))
address=$(python -c 'import ray; print(ray.util.get_node_ip_address())'):$first_port
options=(--min-worker-port=0 --max-worker-port=0 --block)
read -ra more <<<"${STEER_RAY_OPTIONS:-}"
started=()

start_head() {
    ray start --head --port="$first_port" --ray-client-server-port=$((first_port + 1)) --include-dashboard=false \
        --dashboard-agent-listen-port=$((first_port + 2)) --labels=steer-pool=cpu "${options[@]}" "${more[@]}" &
    started+=($!)
}

# The nodes of a group of the job (1: small, 2: large), one `ray start` each.
start_pool() {
    local group=$1 label=$2
    srun --het-group="$group" --ntasks-per-node=1 --kill-on-bad-exit=0 ray start --address="$address" \
        --dashboard-agent-listen-port=$((first_port + 2 + group)) --labels=steer-pool="$label" "${options[@]}" "${more[@]}" &
    started+=($!)
}

# Until every node is there: a run on a cluster that cannot grow need not wait for a label that no node has.
wait_for_nodes() {
    RAY_ADDRESS=$address python - "$1" "${STEER_NODES_WAIT_S:-600}" <<'EOF'
import sys, time, ray
wanted, deadline = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
ray.init(logging_level="ERROR", log_to_driver=False)
while (there := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"cluster/slurm.sh: {there} of {wanted} nodes have joined the head in {sys.argv[2]} s: see the log above")
    time.sleep(1)
EOF
}

# Until the head answers, at most two minutes.
wait_for_head() {
    python - "$address" <<'EOF'
import socket, sys, time
host, port = sys.argv[1].rsplit(":", 1)
deadline = time.monotonic() + 120
while True:
    try:
        socket.create_connection((host, int(port)), 2).close()
        break
    except OSError:
        if time.monotonic() > deadline:
            sys.exit(f"cluster/slurm.sh: Ray's head does not answer at {sys.argv[1]}: see the log above")
        time.sleep(0.5)
EOF
}

run='' signalled=''
end() {
    trap - EXIT
    for process in "${started[@]}"; do kill -TERM "$process" 2>/dev/null || true; done
    wait
}
trap end EXIT
trap 'signalled=1; [[ -z $run ]] && exit 130; kill -TERM "$run" 2>/dev/null || true' TERM INT

start_head
wait_for_head
# One group after the other: two `ray start` at the same moment on one node would take the same names for their sockets.
start_pool 1 small
wait_for_nodes $((1 + SLURM_JOB_NUM_NODES_HET_GROUP_1))
start_pool 2 large
wait_for_nodes $((1 + SLURM_JOB_NUM_NODES_HET_GROUP_1 + SLURM_JOB_NUM_NODES_HET_GROUP_2))

code=0
RAY_ADDRESS=$address bash cluster/entrypoint.sh "$@" &
run=$!
wait "$run" || code=$?
# A signal ends `wait`, not the run, which then ends itself. 127: its code was there already.
while [[ -n $signalled ]]; do
    signalled='' again=0
    wait "$run" || again=$?
    ((again == 127)) || code=$again
done
exit "$code"
