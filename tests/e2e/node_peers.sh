#!/usr/bin/env bash
# A node that joined a control plane of three peers, all named: each API server reaches its pods; the peers are killed
# one after the other, the node goes on with another, pods run on and new ones start.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
need_root
need_images
command -v kubectl >/dev/null || { skip "kubectl is not on PATH"; finish; }
command -v python3 >/dev/null || { skip "python3 is not on PATH"; finish; }
in_own_network
export HOME=$work
ports=($(free_ports 6))
peers="a=127.0.0.1:${ports[0]},b=127.0.0.1:${ports[1]},c=127.0.0.1:${ports[2]}"
declare -A pid api=([a]=127.0.0.1:${ports[3]} [b]=127.0.0.1:${ports[4]} [c]=127.0.0.1:${ports[5]})
agent=
cleanups+=('for p in "${pid[@]}" $agent; do kill -9 "$p" 2>/dev/null; done; "$orchestra" down --data "$work/n1" --timeout 20 >/dev/null 2>&1')
begin() { # PEER
  local token=(); [ "$1" = a ] || token=(--token-file "$work/a/token")
  "$orchestra" up --data "$work/$1" --name "$1" --peers "$peers" "${token[@]}" --no-node --isolation process \
    --listen "${api[$1]}" >"$work/$1.out" 2>>"$work/$1.err" &
  pid[$1]=$!
}
ready() { wait_for 60 grep -q '^ready in' "$work/$1.out" || { tail "$work/$1.err"; fail "peer $1 was not ready"; }; }
by() { kubectl --kubeconfig "$work/$1/admin.kubeconfig" --request-timeout 20s "${@:2}"; }
mkdir -p "$work/a"
begin a
wait_for 10 test -s "$work/a/token" || fail "the first peer made no token"
begin b; begin c
for p in a b c; do ready "$p"; done

# The first of the list is nobody: joining goes on with the next.
nobody=$(free_ports 1)
"$orchestra" join "https://127.0.0.1:$nobody,https://${api[a]},https://${api[b]},https://${api[c]}" --token-file "$work/a/node-token" \
  --data "$work/n1" --node-name edge --isolation process >"$work/join.out" 2>>"$work/join.err" &
agent=$!
wait_for 60 grep -q '^ready in' "$work/join.out" && pass "a node joins though the first server of its list is away" || { cat "$work/join.out"; tail "$work/join.err"; fail "orchestra join was not ready"; }
wait_for 20 by b wait --for=condition=Ready node/edge --timeout=1s || fail "no Ready node: $(by b get nodes 2>&1)"
pod() { # PEER NAME
  by "$1" apply -f - >/dev/null 2>&1 <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $2}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: quickstart/web:1, command: [/bin/sh, -c, 'echo words of $2; while :; do sleep 1; done']}]
YAML
}
running() { [ "$(by "$1" get pod "$2" -o 'jsonpath={.status.phase}' 2>/dev/null)" = Running ]; }
wait_for 20 pod a first || fail "apply on a"
wait_for 30 running c first && pass "its pod runs, seen by all" || fail "first: $(by c get pods 2>&1)"
says() { [ "$(by "$1" logs "$2" 2>&1)" = "words of $2" ] && [ "$(by "$1" exec "$2" -- echo through "$1" 2>&1)" = "through $1" ]; }
for p in a b c; do wait_for 20 says "$p" first && pass "logs and exec through $p" || failed "through $p: $(by "$p" logs first 2>&1)"; done

# One after the other: each time two are left, and the node is told by one of them.
own=$(by c get pod first -o 'jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}')
for gone in a b c; do
  others=($(for p in a b c; do [ "$p" = "$gone" ] || echo "$p"; done))
  kill -9 "${pid[$gone]}"; wait "${pid[$gone]}" 2>/dev/null
  wait_for 30 pod "${others[0]}" "without-$gone" || failed "no write without $gone"
  wait_for 60 running "${others[1]}" "without-$gone" && wait_for 20 says "${others[1]}" "without-$gone" &&
    pass "without $gone: a new pod runs, its logs and exec through ${others[1]}" ||
    failed "without $gone: $(by "${others[1]}" get pods 2>&1; tail -n 5 "$work/join.err")"
  : >"$work/$gone.out"
  begin "$gone"; ready "$gone"
  wait_for 40 says "$gone" first && pass "$gone is back and reaches the node again" || failed "$gone is back: $(by "$gone" logs first 2>&1)"
done
[ "$(by a get pod first -o 'jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}')" = "$own" ] && pass "the first pod never stopped" || failed "first was started again"
finish
