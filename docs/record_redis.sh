#!/usr/bin/env bash
# Records docs/redis.mpt: a redis-server that is idle, is filled, and is written to here and there.
# Needs: apt-get install redis-server redis-tools
set -euo pipefail
cd "$(dirname "$0")"

work=$(mktemp -d)
redis-server --port 0 --unixsocket "$work/redis" --save "" --daemonize no --dir "$work" >/dev/null &
server=$!
trap 'kill $server; wait $server; rm -rf "$work"' EXIT
until redis-cli -s "$work/redis" ping >/dev/null 2>&1; do sleep 0.1; done

load() { redis-benchmark -s "$work/redis" -q -r 200000 -d 512 -c 4 "$@" >/dev/null; }
mempattern-trace "$server" --duration 9 --quiet --force -o redis.mpt &
tracer=$!
sleep 1.5                                      # idle
load -t set -n 60000                           # fresh memory fills up
timeout 3 bash -c "while :; do redis-benchmark -s $work/redis -q -t incr -n 2000 -c 1 >/dev/null; done" || true
load -t lpush -n 40000
wait $tracer
