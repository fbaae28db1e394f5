#!/usr/bin/env bash
# A worker for count_primes in a shell: bash, curl, jq, and factor from the coreutils.
#
#   shell-worker.sh [ADDRESS [QUEUE]]        default: localhost:8080 default
#
# It keeps the rules of docs/worker-protocol.md, but for chunk_timeout. It is slow, and good for numbers
# up to some 10^12.
set -euo pipefail
mesh=http://${1:-localhost:8080}
self=$(jq -nc --arg uid "$(cat /proc/sys/kernel/random/uuid)" --arg queue "${2:-default}" \
    '{name: "shell-worker", uid: $uid, slots: 1, kernels: ["count_primes"], queues: [$queue]}')
calls=0
held='[]'
counter=
leaving=

# Makes a call with these fields (JSON), repeated until there is an answer: `answer`.
synchronize() {
    calls=$((calls + 1))
    local call
    call=$(jq -nc --arg id "$calls" --argjson self "$self" --argjson held "$held" \
        --argjson fields "$1" '{call_id: $id, worker: $self, held: $held} + $fields')
    until answer=$(curl -s -m 3 -w '%{http_code}' "$mesh/v1/workers:synchronize" -d "$call") &&
        [[ $answer == *200 ]]; do
        if [[ $answer == *400 ]]; then # a fault of the call, which no repetition mends
            echo "${answer%400}" >&2
            exit 1
        fi
        sleep 0.5
    done
    answer=${answer%200}
    ! jq -e .drain <<<"$answer" >/dev/null || leaving=true
}

# Hands back what is not finished, and says goodbye.
leave() {
    trap - INT TERM
    kill "$counter" 2>/dev/null || true
    synchronize "{\"draining\": true, \"returned\": $held}"
    held='[]'
    synchronize '{"draining": true}'
}
trap leave EXIT
trap 'leaving=true' INT TERM

results='[]'
while [[ ! $leaving ]]; do
    synchronize "{\"results\": $results, \"capacity\": 1, \"wait\": \"1s\"}"
    results='[]'
    held=$(jq -c '[.assignments[].chunks]' <<<"$answer")
    [[ $held != '[]' ]] || continue
    read -r i n start stop < <(jq -r '"\(.assignments[0].chunks.first) \(.works[0].chunk_count) " +
        (.works[0].work.count_primes | "\(.start) \(.stop)")' <<<"$answer")
    # Every worker has to cut the work like this: width * i / n, rounded down.
    width=$((stop - start + 1))
    first=$((start + width * i / n)) last=$((start + width * (i + 1) / n - 1))
    begun=${EPOCHREALTIME/[.,]/}
    exec 3< <(exec awk -v numbers=$((last - first + 1)) \
        'NF == 2 { primes++ } END { if (NR == numbers) print primes + 0 }' \
        < <(seq "$first" "$last" | factor))
    counter=$! # awk: when it is killed, what writes to it ends too
    until read -r -t 1 -u 3 primes; do
        (($? > 128)) || exit 1 # not that the second is over, but that there is no count
        [[ ! $leaving ]] || exit 0
        synchronize '{}' # the worker lives; is its chunk still wanted?
        if jq -e '.stop != []' <<<"$answer" >/dev/null; then
            kill "$counter" 2>/dev/null || true
            held='[]'
            continue 2
        fi
    done
    results=$(jq -c --arg primes "$primes" --arg micros $((${EPOCHREALTIME/[.,]/} - begun)) \
        '[{chunks: .[0], sums: [$primes],
        compute_micros: [$micros], age_micros: $micros, elapsed_micros: $micros}]' <<<"$held")
done
synchronize "{\"results\": $results}"
held='[]'
