#!/usr/bin/env bash
# What balancers and near clients get of three machines: each says on a Service's healthCheckNodePort whether it has
# endpoints (externalTrafficPolicy Local), and trafficDistribution keeps to the zone, or to the node.
set -uo pipefail
cd "$(dirname "$0")/../../.."
source tests/e2e/net/lab.sh
start_lab
kubectl label node a b topology.kubernetes.io/zone=east >/dev/null && kubectl label node c topology.kubernetes.io/zone=west >/dev/null || fail "label"
start_web
kubectl apply -f - >/dev/null <<'YAML' || fail "apply"
apiVersion: apps/v1
kind: Deployment
metadata: {name: front}
spec:
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}}
    spec:
      nodeSelector: {kubernetes.io/hostname: b}
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: quickstart/web:1
        command: [/bin/sh, -c, 'mkdir -p /tmp/www; echo front > /tmp/www/index.html; exec httpd -f -p 8000 -h /tmp/www']
        readinessProbe: {httpGet: {path: /index.html, port: 8000}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: front}, ports: [{port: 80, targetPort: 8000}]}
YAML
kubectl rollout status deployment/front --timeout=180s >/dev/null || fail "front: $(kubectl get pods -o wide)"
port=$(kubectl get service front -o 'jsonpath={.spec.healthCheckNodePort}')
[ "${port:-0}" -ge 30000 ] && [ "$port" -le 32767 ] && pass "the Service has a health check port of the range" || fail "port: $port"
# health MACHINE: status, weight and localEndpoints, as a balancer outside sees them.
health() {
  { exec 3<>"/dev/tcp/$(address "$1")/$port"; } 2>/dev/null || { echo refused; return; }
  printf 'GET /healthz HTTP/1.0\r\nHost: x\r\n\r\n' >&3
  tr -d '\r' <&3 | awk 'NR == 1 {status=$2} tolower($1) == "x-load-balancing-endpoint-weight:" {weight=$2} /"localEndpoints"/ {gsub(/[^0-9]/, ""); local=$0} END {print status, weight, local}'
  exec 3<&-
}
all() { echo "$(health a) / $(health b) / $(health c)"; }
want="503 0 0 / 200 1 1 / 503 0 0"
on_b_alone() { [ "$(all)" = "$want" ]; }
wait_for 10 on_b_alone && pass "the machine with the endpoint says 200, the others 503" || failed "$(all)"
kubectl scale deployment/front --replicas=0 >/dev/null
nowhere() { [ "$(all)" = "503 0 0 / 503 0 0 / 503 0 0" ]; }
wait_for 15 nowhere && pass "and 503 when it is gone" || failed "$(all)"
kubectl patch service front --type=merge -p '{"spec":{"externalTrafficPolicy":"Cluster"}}' >/dev/null || failed "patch"
closed() { [ "$(all)" = "refused / refused / refused" ]; }
wait_for 10 closed && pass "a Service that goes anywhere is not asked" || failed "$(all)"
[ -z "$(kubectl get service front -o 'jsonpath={.spec.healthCheckNodePort}')" ] && pass "and has no such port any more" || failed "it has"

# answers MACHINE: which pods of web answer one of that machine.
answers() { answers_in 20 "$(pod_on "$1")" web.default.svc.cluster.local 80 | sort -u | tr '\n' ' '; }
spread() { kubectl patch service web --type=merge -p "{\"spec\":{\"trafficDistribution\":$1}}" >/dev/null || failed "patch $1"; }
hinted() { [ "$(kubectl get endpointslices -l kubernetes.io/service-name=web -o json | grep -c "\"$1\"")" -ge "$2" ]; }
spread '"PreferSameZone"'
wait_for 10 hinted forZones 3 || failed "no hints: $(kubectl get endpointslices -l kubernetes.io/service-name=web -o yaml)"
same_zone() { [ "$(answers a)" = "I am a I am b " ] && [ "$(answers c)" = "I am c " ]; }
wait_for 20 same_zone && pass "PreferSameZone keeps to the zone" || failed "a: $(answers a), c: $(answers c)"
spread '"PreferSameNode"'
wait_for 10 hinted forNodes 3 || failed "no hints of nodes"
same_node() { [ "$(answers a)" = "I am a " ] && [ "$(answers b)" = "I am b " ]; }
wait_for 20 same_node && pass "PreferSameNode keeps to the node" || failed "a: $(answers a), b: $(answers b)"
spread null
everywhere() { [ "$(answers c)" = "I am a I am b I am c " ]; }
wait_for 20 everywhere && pass "without it the Service leads everywhere" || failed "c: $(answers c)"
finish
