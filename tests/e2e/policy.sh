#!/usr/bin/env bash
# NetworkPolicies by kubectl in a running cluster: a policy closes, opens, is explained by an event where it
# cannot be enforced, and goes with `orchestra down`.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
need_root
need_images
command -v kubectl >/dev/null || { skip "kubectl is not on PATH"; finish; }
[ -n "${INSIDE:-}" ] || exec unshare --net env INSIDE=1 bash -c 'ip link set lo up && exec "$0"' "$PWD/tests/e2e/policy.sh"
export HOME=$work
owner=
cleanups+=('[ -n "$owner" ] && kill -9 "$owner" 2>/dev/null; for d in "$work"/full "$work"/process; do [ -d "$d" ] && "$orchestra" down --data "$d" >/dev/null 2>&1; done')
up() {  # LEVEL
  export KUBECONFIG=$work/$1/admin.kubeconfig
  : >"$work/up.out"
  "$orchestra" up --data "$work/$1" --isolation "$1" --listen 127.0.0.1:0 --ingress 127.0.0.1:0 >"$work/up.out" 2>"$work/up.err" &
  owner=$!
  wait_for 20 grep -q '^ready in' "$work/up.out" || { tail -n 5 "$work/up.err"; fail "orchestra up was not ready"; }
}
deny='{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"deny","namespace":"shop"},"spec":{"podSelector":{"matchLabels":{"app":"redis"}},"policyTypes":["Ingress"]}}'
allow='{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"allow-web","namespace":"shop"},"spec":{"podSelector":{"matchLabels":{"app":"redis"}},"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"web"}}}],"ports":[{"port":6379}]}]}}'
# Redis answers PING, with an error before AUTH; nothing comes when the connection is not made.
ping_from() { kubectl exec -n shop "$1" -- sh -c "printf 'PING\\r\\n' | nc -w 2 redis.shop.svc.cluster.local 6379 | grep -q ." >/dev/null 2>&1; }
reaches() { ping_from deploy/web; }
blocked() { ! reaches; }

up full
kubectl apply -f examples/quickstart/ >/dev/null
kubectl rollout status -n shop deployment/web --timeout=180s >/dev/null && kubectl rollout status -n shop deployment/redis --timeout=180s >/dev/null || fail "the shop did not become ready"
wait_for 10 reaches && pass "without a policy the web pod reaches Redis" || failed "web does not reach Redis"
echo "$deny" | kubectl apply -f - >/dev/null
wait_for 10 blocked && pass "a policy without rules closes Redis" || failed "Redis is still open"
kubectl wait -n shop --for=condition=Ready pod -l app=redis --timeout=30s >/dev/null && pass "probes of the node still pass" || failed "the policy cut the node's probes"
echo "$allow" | kubectl apply -f - >/dev/null
wait_for 10 reaches && pass "a second policy opens Redis for the web pods" || failed "Redis is still closed"
kubectl scale -n shop deployment/web --replicas=3 >/dev/null && kubectl rollout status -n shop deployment/web --timeout=180s >/dev/null
all=yes; for pod in $(kubectl get pods -n shop -l app=web -o name); do wait_for 10 ping_from "$pod" || all=; done
[ -n "$all" ] && pass "new web pods are let in too" || failed "a new web pod is not let in"
kubectl run -n shop stranger --image=quickstart/web:1 --restart=Never --command -- /bin/sh -c 'sleep 1000' >/dev/null
kubectl wait -n shop --for=condition=Ready pod/stranger --timeout=120s >/dev/null
ping_from pod/stranger && failed "a pod that no rule names reaches Redis" || pass "a pod that no rule names stays outside"
instance=$(cat "$work/full/instance")
"$orchestra" down --data "$work/full" >"$work/down.log" 2>&1 && [ -z "$(nft list tables | grep "$instance")" ] && pass "orchestra down removes the tables" || { cat "$work/down.log"; failed "left: $(nft list tables)"; }
end_of "$owner" 2>/dev/null; owner=

up process
kubectl create namespace shop >/dev/null
echo "$deny" | kubectl apply -f - >/dev/null
told() { kubectl get events -n shop -o 'jsonpath={.items[*].reason}' | matches NetworkPolicyNotEnforced; }
wait_for 10 told && pass "where policies cannot be enforced, an event on the policy says so" || failed "events: $(kubectl get events -n shop)"
"$orchestra" down --data "$work/process" >/dev/null 2>&1 || failed "orchestra down"
end_of "$owner" 2>/dev/null; owner=
finish
