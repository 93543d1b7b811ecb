#!/usr/bin/env bash
# `orchestra explain pod` against a control plane without a node of its own: three nodes that are objects only, a pod that fits
# nowhere; every node has its reason, `kubectl describe` names them with their counts, and what would help is said.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
command -v kubectl >/dev/null || { skip "kubectl is not on PATH"; finish; }
owner=
cleanups+=('[ -n "$owner" ] && kill "$owner" 2>/dev/null && wait "$owner" 2>/dev/null')
export HOME=$work
"$orchestra" up --data "$work/d" --no-node --node-grace 3600 --listen 127.0.0.1:0 >"$work/out" 2>"$work/err" & owner=$!
wait_for 20 grep -q '^ready in' "$work/out" || { cat "$work/err"; fail "orchestra up was not ready"; }
export KUBECONFIG=$work/d/admin.kubeconfig
now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
node() {  # NAME CPU [LABEL]
  kubectl apply -f - >/dev/null <<YAML || fail "node $1"
apiVersion: v1
kind: Node
metadata: {name: $1, labels: {kubernetes.io/hostname: $1, disk: ${3:-ssd}}}
YAML
  kubectl patch node "$1" --subresource=status --type=merge -p '{"status": {"capacity": {"cpu": "'"$2"'", "memory": "8Gi", "pods": "10"},
    "allocatable": {"cpu": "'"$2"'", "memory": "8Gi", "pods": "10"},
    "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "'"$now"'", "lastTransitionTime": "'"$now"'"}]}}' >/dev/null || fail "status of node $1"
}
node small 1
node busy 4 hdd
node tainted 4
kubectl taint node tainted gpu=yes:NoSchedule >/dev/null || fail "taint"
untainted() { [ "$(kubectl get nodes -o jsonpath='{.items[*].spec.taints[*].key}')" = gpu ]; }
wait_for 10 untainted || fail "the nodes did not lose the taint of those that are not ready: $(kubectl get nodes -o yaml | grep -A3 taints)"
kubectl apply -f - >/dev/null <<'YAML' || fail "pod"
apiVersion: v1
kind: Pod
metadata: {name: picky, namespace: default}
spec:
  nodeSelector: {disk: ssd}
  containers: [{name: main, image: web, resources: {requests: {cpu: "2"}}}]
YAML
message='0/3 nodes are available: 1 Insufficient cpu, 1 node\(s\) didn.t match Pod.s node affinity/selector, 1 node\(s\) had untolerated taint'
described() { kubectl describe pod picky | matches -E "FailedScheduling.*$message"; }
wait_for 20 described && pass "kubectl describe names every reason with its count" || fail "describe: $(kubectl describe pod picky | tail -n 5)"

out=$("$orchestra" explain pod default/picky); status=$?
[ "$status" = 1 ] && pass "explain pod: exit status 1, there is no node for it" || failed "exit status $status: $out"
for row in 'small +no +Insufficient cpu \(NodeResourcesFit\)' 'busy +no .*affinity/selector.*\(NodeAffinity\)' 'tainted +no .*untolerated taint.*\(TaintToleration\)'; do
  grep -qE "^$row" <<<"$out" && pass "row: $row" || failed "no row \"$row\" in: $out"
done
grep -qE "^default/picky: $message" <<<"$out" && pass "and the scheduler's own message" || failed "message: $out"
out=$("$orchestra" explain pod picky --add tainted=2 --quiet) && failed "two more tainted nodes help: $out" || pass "more nodes with the taint do not help"
out=$("$orchestra" explain pod default/nobody 2>&1); [ $? = 3 ] && grep -q 'no pod default/nobody' <<<"$out" && pass "a pod that is not there: exit status 3" || failed "nobody: $out"
# The same through the API.
out=$(kubectl get podexplanations); grep -qE "^picky +<none> +<none> +$message" <<<"$out" && pass "kubectl get podexplanations: who waits, and why" || failed "podexplanations: $out"
out=$(kubectl get podexplanation picky -o 'jsonpath={range .nodes[*]}{.name} {.fits} {.reasons[0]} ({.plugin}){"\n"}{end}')
grep -qx 'small false Insufficient cpu (NodeResourcesFit)' <<<"$out" && grep -q '^tainted false .*(TaintToleration)$' <<<"$out" && pass "kubectl get podexplanation: node by node" || failed "podexplanation: $out"
out=$(kubectl get podexplanation nobody 2>&1) && failed "nobody: $out" || { grep -q 'podexplanations.orchestra.dev "nobody" not found' <<<"$out" && pass "of a pod that is not there: NotFound" || failed "nobody: $out"; }

kubectl taint node tainted gpu- >/dev/null
bound() { [ "$(kubectl get pod picky -o jsonpath='{.spec.nodeName}')" = tainted ]; }
wait_for 20 bound && pass "without the taint it gets that node" || failed "it went to \"$(kubectl get pod picky -o jsonpath='{.spec.nodeName}')\""
out=$("$orchestra" explain pod default/picky --scores); status=$?
[ "$status" = 0 ] && grep -q '^it runs on tainted$' <<<"$out" && grep -qE '^tainted +yes +[0-9]+ .*NodeResourcesFit [0-9]+ x1' <<<"$out" && pass "explain of a pod that runs: its scores" || failed "explain: $status $out"
out=$(kubectl get podexplanation picky -o 'jsonpath={.nodeName} {.wouldGoTo} {.nodes[?(@.name=="tainted")].scores[?(@.plugin=="NodeResourcesFit")].weight}')
[ "$out" = "tainted tainted 1" ] && pass "podexplanation of a pod that runs" || failed "podexplanation: $out"
out=$("$orchestra" explain pod default/picky --without tainted --quiet); [ $? = 1 ] && pass "without that node it would have none" || failed "without: $out"
finish
