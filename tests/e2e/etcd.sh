#!/usr/bin/env bash
# `orchestra up --etcd URL`: the whole control plane on an existing etcd; kill -9 of the program and of etcd.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
PATH=$PATH:$PWD/build/peers/root/usr/bin
command -v etcd >/dev/null || { skip "etcd is not in PATH (Debian package etcd-server; tools/fetch-peers.sh)"; finish; }
command -v kubectl >/dev/null || { skip "kubectl is not on PATH"; finish; }
etcd= up=
cleanups+=('for p in $etcd $up; do kill -9 "$p" 2>/dev/null; done; true')
mkdir -p "$work/e"
url="etcd+unix:$work/e/c:0"
start_etcd() {
  rm -f "$work/e/c:0" "$work/e/p:0"
  (cd "$work/e" && exec etcd --data-dir d --listen-client-urls unix://c:0 --listen-peer-urls unix://p:0 \
    --advertise-client-urls http://127.0.0.1:0 --log-level error) >"$work/etcd.log" 2>&1 &
  etcd=$!
}
count() { "$orchestra" store get "$1" --prefix --count --endpoint "$url" 2>/dev/null; }
start_etcd
wait_for 20 count / || { cat "$work/etcd.log"; fail "etcd does not answer"; }
start_up() {
  : >"$work/up.out"
  "$orchestra" up --data "$work/d" --etcd "$url" --no-node --listen 127.0.0.1:0 >"$work/up.out" 2>>"$work/up.err" &
  up=$!
  wait_for 30 grep -q '^ready in' "$work/up.out" || { cat "$work/up.err"; fail "up --etcd was not ready"; }
}
start_up
pass "up --etcd is ready"
k() { kubectl --kubeconfig "$work/d/admin.kubeconfig" "$@"; }
deploy() {
  k apply -f - >/dev/null <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: $1}
spec:
  replicas: 2
  selector: {matchLabels: {app: $1}}
  template: {metadata: {labels: {app: $1}}, spec: {containers: [{name: c, image: none/none:1}]}}
YAML
}
two() { [ "$(k get pods -l "app=$1" --no-headers 2>/dev/null | wc -l)" = 2 ]; }
deploy web || fail "kubectl apply"
wait_for 20 two web && pass "a Deployment makes its pods" || failed "pods of web: $(k get pods 2>&1)"
[ "$(count /orchestra/objects/core/pods/)" = 2 ] && pass "they are in etcd" || failed "pods in etcd: $(count /orchestra/objects/core/pods/)"
[ ! -e "$work/d/store" ] || [ -z "$(ls "$work/d/store")" ] && pass "and not in the folder" || failed "the folder holds a store too"
kill -9 "$up"; wait "$up" 2>/dev/null
start_up
two web && pass "after kill -9 and a new start everything is there" || failed "after restart: $(k get pods 2>&1)"
kill -9 "$etcd"; wait "$etcd" 2>/dev/null
k create configmap gone --request-timeout=3s >/dev/null 2>&1 && failed "a write was acknowledged without etcd"
start_etcd
wait_for 30 deploy late && wait_for 30 two late && pass "after kill -9 of etcd it goes on by itself" || failed "after etcd's restart: $(k get pods 2>&1)"
kill -TERM "$up"; end_of "$up" && pass "SIGTERM ends it with status 0" || failed "SIGTERM: status $?"
up=
finish
