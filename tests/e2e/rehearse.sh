#!/usr/bin/env bash
# A rehearsal on a live cluster's state: the quickstart's manifests in a control plane whose nodes are objects only, exported
# over HTTPS, and a day of lost nodes simulated on what was exported; then the same straight from the cluster.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
command -v kubectl >/dev/null || { skip "kubectl is not on PATH"; finish; }
owner=
cleanups+=('[ -n "$owner" ] && kill "$owner" 2>/dev/null && wait "$owner" 2>/dev/null')
export HOME=$work
"$orchestra" up --data "$work/d" --no-node --node-grace 3600 --listen 127.0.0.1:0 >"$work/out" 2>"$work/err" & owner=$!
matches_ready() { grep -q '^ready in' "$work/out"; }
wait_for 20 matches_ready || { cat "$work/err"; fail "orchestra up was not ready"; }
export KUBECONFIG=$work/d/admin.kubeconfig
for node in one two; do
  kubectl apply -f - >/dev/null <<YAML || fail "node $node"
apiVersion: v1
kind: Node
metadata: {name: $node, labels: {kubernetes.io/hostname: $node}}
YAML
  kubectl patch node "$node" --subresource=status --type=merge -p '{"status": {"capacity": {"cpu": "2", "memory": "4Gi", "pods": "20"},
    "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "20"}}}' >/dev/null || fail "status of node $node"
done
kubectl apply -f examples/quickstart/ >/dev/null || fail "the quickstart's manifests"
there() { [ "$(kubectl get pods -n shop --no-headers 2>/dev/null | wc -l)" = 3 ]; }
wait_for 20 there || fail "pods: $(kubectl get pods -n shop)"

"$orchestra" sim export --kubeconfig "$KUBECONFIG" >"$work/mine.yaml" || fail "sim export"
for kind in Node Namespace Deployment Service Pod; do
  grep -q "^kind: $kind\$" "$work/mine.yaml" && pass "exported over HTTPS: $kind" || failed "no $kind in the export"
done
grep -qE '^kind: (Secret|ConfigMap)$' "$work/mine.yaml" && failed "the export has secrets" || pass "no Secret is in the export"

"$orchestra" sim examples/simulate/rehearse-day.yaml --from-objects "$work/mine.yaml" --out "$work/day" >"$work/sim.out" 2>&1
[ $? = 0 ] && pass "a day of lost nodes, rehearsed on the export, holds what it expects" || failed "sim: $(tail -n 5 "$work/sim.out")"
grep -qE 'node (one|two) loses its power' "$work/day/report.txt" && pass "the cluster's own nodes are lost in it" || failed "timeline: $(head -n 20 "$work/day/report.txt")"
grep -q 'deployment/shop/web: 2 of 2 pods serve' "$work/day/report.txt" && pass "its workloads run in it" || failed "no shop/web in the report"
grep -q '<svg' "$work/day/report.svg" && grep -q '^seconds\|^at' "$work/day/report.csv" && python3 -c 'import json,sys; json.load(open(sys.argv[1]))' "$work/day/report.json" \
  && pass "picture, table and JSON" || failed "reports: $(head -c 200 "$work/day/report.svg") $(head -n 1 "$work/day/report.csv")"

sed 's/^duration: .*/duration: 1h/; /from: 23h/d' examples/simulate/rehearse-day.yaml >"$work/hour.yaml"
"$orchestra" sim "$work/hour.yaml" --from-objects "$work/mine.yaml" --report json >"$work/a.json" 2>/dev/null
"$orchestra" sim "$work/hour.yaml" --from-kubeconfig "$KUBECONFIG" --report json >"$work/b.json" 2>/dev/null
cmp -s "$work/a.json" "$work/b.json" && pass "straight from the cluster it is the same hour, byte for byte" || failed "from the cluster: $(diff "$work/a.json" "$work/b.json" | head -n 5)"
finish
