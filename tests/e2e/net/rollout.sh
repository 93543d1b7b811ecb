#!/usr/bin/env bash
# A rolling update behind a Service while new connections come without a pause: none of them fails.
set -uo pipefail
cd "$(dirname "$0")/../../.."
source tests/e2e/lib.sh
need_root
need_images
for tool in kubectl python3; do command -v $tool >/dev/null || { skip "$tool is not on PATH"; finish; }; done
[ -n "${INSIDE:-}" ] || exec unshare --net env INSIDE=1 bash -c 'ip link set lo up && exec "$0"' "$PWD/tests/e2e/net/rollout.sh"
export KUBECONFIG=$work/data/admin.kubeconfig HOME=$work
owner= load=
cleanups+=('for p in $load $owner; do kill -9 $p 2>/dev/null; wait $p 2>/dev/null; done; [ -d "$work/data" ] && "$orchestra" down --data "$work/data" --timeout 20 >/dev/null 2>&1')
"$orchestra" up --data "$work/data" --isolation full --listen 127.0.0.1:0 --ingress 127.0.0.1:0 >"$work/up.out" 2>"$work/up.err" & owner=$!
wait_for 30 grep -q '^ready in' "$work/up.out" || { tail "$work/up.err"; fail "orchestra up was not ready"; }
kubectl apply -f - >/dev/null <<'YAML' || fail "apply"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: c
        image: quickstart/web:1
        command: [/bin/sh, -c, 'mkdir -p /tmp/www; echo "version $VERSION" > /tmp/www/index.html; exec httpd -f -p 8000 -h /tmp/www']
        env: [{name: VERSION, value: one}]
        readinessProbe: {httpGet: {path: /index.html, port: 8000}, periodSeconds: 1}
        # As everywhere: a pod serves on until nobody sends to it any more.
        lifecycle: {preStop: {exec: {command: [/bin/sh, -c, sleep 2]}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8000}]}
YAML
kubectl rollout status deployment/web --timeout=180s >/dev/null || fail "web: $(kubectl get pods)"
service=$(kubectl get service web -o 'jsonpath={.spec.clusterIP}')
cat >"$work/load.py" <<'PY'
import os, socket, sys
good = bad = 0; seen = set(); why = ""
while not os.path.exists(sys.argv[2]):
    try:
        s = socket.create_connection((sys.argv[1], 80), 30); s.settimeout(30)
        s.sendall(b"GET /index.html HTTP/1.0\r\n\r\n"); text = b""
        while True:
            more = s.recv(4096)
            if not more: break
            text += more
        s.close()
        if b"version " not in text: raise OSError("half an answer: %r" % text)
        good += 1; seen.add(text.rsplit(b"version ", 1)[1].strip().decode())
    except OSError as e: bad += 1; why = str(e)
print(good, bad, ",".join(sorted(seen)), why)
PY
reached() { python3 -c 'import socket, sys; socket.create_connection((sys.argv[1], 80), 1)' "$service"; }
wait_for 10 reached || fail "the Service does not answer"
python3 "$work/load.py" "$service" "$work/stop" >"$work/load.out" & load=$!
kubectl set env deployment/web VERSION=two >/dev/null
kubectl rollout status deployment/web --timeout=270s >/dev/null && pass "the rollout ends" || failed "rollout: $(kubectl get pods)"
old_gone() { [ "$(kubectl get pods -l app=web --no-headers | wc -l)" = 3 ]; }
wait_for 30 old_gone || failed "old pods: $(kubectl get pods)"
touch "$work/stop"; wait $load; load=
read -r good bad seen why <"$work/load.out"
[ "$bad" = 0 ] && [ "$good" -gt 100 ] && pass "$good connections meanwhile, none failed" || failed "$bad of $((good + bad)) failed: $why"
[ "$seen" = one,two ] && pass "old and new pods were among them" || failed "seen: $seen"
finish
