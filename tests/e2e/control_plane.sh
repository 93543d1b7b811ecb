#!/usr/bin/env bash
# A control plane of three peers: `orchestra up --peers` three times, the same certificates on all, controllers on
# the elected one only; kill -9 of that one: another takes over, no work is lost and none is done twice.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
command -v kubectl >/dev/null || { skip "kubectl is not on PATH"; finish; }
command -v python3 >/dev/null || { skip "python3 is not on PATH"; finish; }
[ "$(id -u)" != 0 ] || in_own_network
ports=($(free_ports 6))
peers="a=127.0.0.1:${ports[0]},b=127.0.0.1:${ports[1]},c=127.0.0.1:${ports[2]}"
declare -A pid
cleanups+=('for p in "${pid[@]}"; do kill -9 "$p" 2>/dev/null; done')
number() { case $1 in a) echo 3 ;; b) echo 4 ;; c) echo 5 ;; esac; }
start() {
  local token=(); [ "$1" = a ] || token=(--token-file "$work/a/token")
  "$orchestra" up --data "$work/$1" --name "$1" --node-name "node-$1" --peers "$peers" "${token[@]}" --no-node \
    --listen "127.0.0.1:${ports[$(number "$1")]}" >"$work/$1.out" 2>>"$work/$1.err" &
  pid[$1]=$!
}
mkdir -p "$work/a"
start a
wait_for 20 test -s "$work/a/token" || fail "the first peer made no token"
start b; start c
for p in a b c; do wait_for 60 grep -q '^ready in' "$work/$p.out" || { cat "$work/$p.err"; fail "peer $p was not ready"; }; done
pass "three peers are ready"
cmp -s "$work/a/pki/ca.crt" "$work/b/pki/ca.crt" && cmp -s "$work/a/pki/ca.key" "$work/c/pki/ca.key" && pass "all have the authority of the first" || failed "the certificate authorities differ"
if command -v openssl >/dev/null; then
  shown=$(openssl s_client -connect "127.0.0.1:${ports[0]}" -CAfile "$work/b/peers.crt" -verify_return_error -tls1_3 </dev/null 2>&1)
  grep -q 'Verify return code: 0 (ok)' <<<"$shown" && grep -q 'CN = peer' <<<"$shown" && pass "peers talk TLS 1.3 under an authority that each made of the token" || failed "peer TLS: $shown"
else
  skip "openssl is not on PATH: TLS between peers is looked at from inside only"
fi
on() { kubectl --kubeconfig "$work/$1/admin.kubeconfig" "${@:2}"; }
leader_of() { for p in a b c; do [ "$(grep -c 'run here now' "$work/$p.err")" -gt "$(grep -c 'ended here' "$work/$p.err")" ] && kill -0 "${pid[$p]}" 2>/dev/null && echo "$p"; done; }
one_leader() { [ "$(leader_of | wc -l)" = 1 ]; }
wait_for 20 one_leader && pass "controllers run on one peer, $(leader_of)" || failed "elected: $(leader_of)"
deploy() {
  on "$1" apply -f - >/dev/null <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: $2}
spec:
  replicas: 4
  selector: {matchLabels: {app: $2}}
  template: {metadata: {labels: {app: $2}}, spec: {containers: [{name: c, image: none/none:1}]}}
YAML
}
pods() { on "$1" get pods -l "app=$2" --no-headers 2>/dev/null | wc -l; }
deploy b web || fail "apply on b"
four() { [ "$(pods "$1" "$2")" = 4 ]; }
wait_for 20 four c web && pass "applied on b, pods seen on c" || failed "pods of web on c: $(pods c web)"
elected=$(leader_of | head -n 1); others=($(for p in a b c; do [ "$p" = "$elected" ] || echo "$p"; done))
kill -9 "${pid[$elected]}"; wait "${pid[$elected]}" 2>/dev/null
begin=$(date +%s%N)
wait_for 20 deploy "${others[0]}" late || fail "no write after kill -9 of $elected"
wait_for 30 four "${others[1]}" late && pass "another peer took over: pods $(( ($(date +%s%N) - begin) / 1000000 )) ms after kill -9 of the elected one" || failed "pods of late: $(pods "${others[1]}" late)"
wait_for 20 one_leader || failed "elected now: $(leader_of)"
four "${others[0]}" web && [ "$(on "${others[0]}" get replicasets --no-headers | wc -l)" = 2 ] && pass "nothing was lost, nothing done twice" || failed "web: $(pods "${others[0]}" web) pods, $(on "${others[0]}" get replicasets --no-headers | wc -l) ReplicaSets"
: >"$work/$elected.out"  # what it said in its first life is not what is waited for
start "$elected"
wait_for 60 grep -q '^ready in' "$work/$elected.out" && four "$elected" late && pass "the killed one came back and serves" || failed "$elected did not come back"
printf 'a-wrong-token-of-a-cluster\n' >"$work/wrong"
kill -TERM "${pid[c]}"; end_of "${pid[c]}" && pass "SIGTERM ends a peer with status 0" || failed "SIGTERM: status $?"
refused=$(timeout 90 "$orchestra" up --data "$work/c" --name c --node-name node-c --peers "$peers" --token-file "$work/wrong" --no-node --listen 127.0.0.1:0 2>&1); status=$?
[ $status = 10 ] && grep -q 'token' <<<"$refused" && pass "a wrong token is refused by name" || failed "wrong token: status $status: $refused"
refused=$(timeout 90 "$orchestra" up --data "$work/fresh" --name c --node-name node-c --peers "$peers" --token-file "$work/wrong" --no-node --listen 127.0.0.1:0 2>&1); status=$?
[ $status = 10 ] && grep -q 'token' <<<"$refused" && pass "also on a new machine, by the first peer that it meets" || failed "wrong token, fresh folder: status $status: $refused"
finish
