#!/usr/bin/env bash
# A UDP client with one port that never changes: when the backend that it is bound to leaves the Service, its next
# packets go to another; counted where they arrive.
set -uo pipefail
cd "$(dirname "$0")/../../.."
source tests/e2e/lib.sh
need_root
need_images
for tool in kubectl python3; do command -v $tool >/dev/null || { skip "$tool is not on PATH"; finish; }; done
[ -n "${INSIDE:-}" ] || exec unshare --net env INSIDE=1 bash -c 'ip link set lo up && exec "$0"' "$PWD/tests/e2e/net/udp.sh"
export KUBECONFIG=$work/data/admin.kubeconfig HOME=$work
owner=
cleanups+=('[ -n "$owner" ] && { kill -9 "$owner"; wait "$owner"; } 2>/dev/null; [ -d "$work/data" ] && "$orchestra" down --data "$work/data" --timeout 20 >/dev/null 2>&1')
"$orchestra" up --data "$work/data" --isolation full --listen 127.0.0.1:0 --ingress 127.0.0.1:0 >"$work/up.out" 2>"$work/up.err" & owner=$!
wait_for 30 grep -q '^ready in' "$work/up.out" || { tail "$work/up.err"; fail "orchestra up was not ready"; }
for name in one two; do
  kubectl apply -f - >/dev/null <<YAML || fail "apply"
apiVersion: v1
kind: Pod
metadata: {name: $name, labels: {app: sink, name: $name}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: quickstart/web:1
    command: [/bin/sh, -c, 'nc -u -l -k -p 9000 2>/dev/null || while :; do nc -u -l -p 9000 -w 3600; done']
YAML
done
kubectl apply -f - >/dev/null <<'YAML' || fail "apply"
apiVersion: v1
kind: Service
metadata: {name: sink}
spec: {selector: {app: sink}, ports: [{port: 9000, protocol: UDP}]}
YAML
kubectl wait --for=condition=Ready pod/one pod/two --timeout=120s >/dev/null || fail "pods: $(kubectl get pods)"
service=$(kubectl get service sink -o 'jsonpath={.spec.clusterIP}')
both() { [ "$(kubectl get endpointslices -l kubernetes.io/service-name=sink -o 'jsonpath={.items[*].endpoints[*].addresses[0]}' | wc -w)" = 2 ]; }
wait_for 10 both || fail "endpoints: $(kubectl get endpointslices)"
# What arrived, from the pods' own interfaces.
link_of() { ip -o route get "$(kubectl get pod "$1" -o 'jsonpath={.status.podIP}')" | grep -o 'dev [^ ]*' | cut -d' ' -f2; }
declare -A link=([one]=$(link_of one) [two]=$(link_of two))
arrived() { link_packets "${link[$1]}" tx; }
cat >"$work/send.py" <<PY
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 0)); s.connect(("$service", 9000))
for line in sys.stdin:
    for i in range(int(line)):
        while True:  # an error is about an earlier packet: this one did not go yet
            try: s.send(b"x\n"); break
            except ConnectionError: pass
    print("sent", flush=True)
PY
coproc sender { python3 "$work/send.py"; }
send() { echo "$1" >&"${sender[1]}"; read -r _ <&"${sender[0]}"; }
send 1
begin_one=$(arrived one); begin_two=$(arrived two)
send 50
first=one; second=two
[ $(( $(arrived two) - begin_two )) -gt $(( $(arrived one) - begin_one )) ] && { first=two; second=one; }
[ $(( $(arrived one) - begin_one + $(arrived two) - begin_two )) -ge 50 ] && [ $(( $(arrived $second) - $([ $second = two ] && echo $begin_two || echo $begin_one) )) -lt 5 ] && pass "a flow of one port stays with one backend ($first)" || failed "one: $(arrived one) before $begin_one, two: $(arrived two) before $begin_two"
kubectl label pod $first app- >/dev/null
left() { [ "$(kubectl get endpointslices -l kubernetes.io/service-name=sink -o 'jsonpath={.items[*].endpoints[*].addresses[0]}' | wc -w)" = 1 ]; }
wait_for 10 left || failed "the endpoint does not leave"
moved() { local b; b=$(arrived $second); send 20; [ $(( $(arrived $second) - b )) -ge 20 ]; }
wait_for 5 moved && pass "when it leaves the Service the flow goes to the other" || failed "the flow stays: $first $(arrived $first), $second $(arrived $second)"
before=$(arrived $first); send 50
[ $(( $(arrived $first) - before )) -lt 10 ] && pass "and nothing more comes to the old one" || failed "$(( $(arrived $first) - before )) more packets at $first"
finish
