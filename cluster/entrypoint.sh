#!/usr/bin/env bash
# Runs a command (`steer run ... --resume DIR`) and runs it again after a failure that may pass, on the nodes that are
# there: a scheduler that starts a job again, such as a RayJob with a backoffLimit, reads no exit code and would buy a
# new cluster for a typo.
#
#   bash cluster/entrypoint.sh COMMAND [ARGUMENT ...]
#
# The exit code is the command's last one. It is run again after 1 alone: failed. All others end at once, such as
# 0 (done), 2 (wrong configuration or usage) and 130 (stopped). After SIGTERM or SIGINT, which the command gets as
# SIGTERM, it is not run again.
#   STEER_RETRIES        how often it is run again at most (3)
#   STEER_RETRY_WAIT_S   seconds before that (30)
set -uo pipefail

retries=${STEER_RETRIES:-3}
wait_s=${STEER_RETRY_WAIT_S:-30}
for number in "$retries" "$wait_s"; do
    if ! [[ $number =~ ^[0-9]+$ ]]; then
        echo "cluster/entrypoint.sh: STEER_RETRIES and STEER_RETRY_WAIT_S must be whole numbers, not '$number'" >&2
        exit 2
    fi
done
if (($# == 0)); then
    echo "cluster/entrypoint.sh: name the command to run: bash cluster/entrypoint.sh COMMAND [ARGUMENT ...]" >&2
    exit 2
fi

child='' told='' stopping='' signalled=''
stop() {
    stopping=1 signalled=1
    [[ -n $child ]] && kill -TERM "$child" 2>/dev/null && told=1
}
trap stop TERM INT

# Runs a command beside this shell, so that a signal is handled while it runs. The result is the command's exit code.
run() {
    told='' signalled=''
    "$@" &
    child=$!
    [[ -n $stopping && -z $told ]] && kill -TERM "$child" 2>/dev/null # the signal came before the command
    wait "$child"
    code=$?
    # A signal ends `wait`, not the command: wait again for the command's own code. 127: that code was there already.
    while [[ -n $signalled ]]; do
        signalled=''
        wait "$child"
        again=$?
        ((again == 127)) || code=$again
    done
    child=''
    return "$code"
}

for ((attempt = 1; ; attempt++)); do
    run "$@"
    code=$?
    if ((code != 1 || attempt > retries)) || [[ -n $stopping ]]; then
        exit "$code"
    fi
    echo "cluster/entrypoint.sh: the command failed; it runs again in $wait_s s ($attempt of $retries)" >&2
    run sleep "$wait_s"
    [[ -n $stopping ]] && exit 130
done
