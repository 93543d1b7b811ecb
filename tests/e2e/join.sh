#!/usr/bin/env bash
# `orchestra join` at level process: a control plane without a node and a node as a process of its own on this
# machine. Token and certificate, pods, logs, exec and port-forward by the tunnel, numbers for `kubectl top`; the
# control plane killed: pods run on; the agent killed: adopted; what is wrong is refused by name; `orchestra down`.
# beside: workloads
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
need_root
need_images
command -v kubectl >/dev/null || { skip "kubectl is not on PATH"; finish; }
in_own_network
export KUBECONFIG=$work/up/admin.kubeconfig HOME=$work
master= agent=
cleanups+=('for p in $master $agent; do kill -9 "$p" 2>/dev/null; done; for d in "$work"/n1 "$work"/up; do [ -d "$d" ] && "$orchestra" down --data "$d" --timeout 20 >/dev/null 2>&1; done')
listen=127.0.0.1:0
up() {
  : >"$work/up.out"
  "$orchestra" up --data "$work/up" --no-node --isolation process --listen "$listen" >"$work/up.out" 2>>"$work/up.err" &
  master=$!
  wait_for 20 grep -q '^ready in' "$work/up.out" || { tail "$work/up.err"; fail "orchestra up was not ready"; }
  listen=$(sed -n 's|^api https://\([^ ]*\).*|\1|p' "$work/up.out")
}
join() {
  : >"$work/join.out"
  "$orchestra" join "$@" --data "$work/n1" --isolation process >"$work/join.out" 2>>"$work/join.err" &
  agent=$!
  wait_for 30 grep -q '^ready in' "$work/join.out" || { cat "$work/join.out"; tail "$work/join.err"; fail "orchestra join was not ready"; }
}
up
[ "$(stat -c %a "$work/up/node-token")" = 600 ] && pass "the token for joining is for its owner only" || failed "node-token: $(stat -c %a "$work/up/node-token")"

# What is wrong is said.
says() { # STATUS TEXT COMMAND..
  local want=$1 text=$2 said status; shift 2
  said=$("$@" 2>&1); status=$?
  [ $status = "$want" ] && grep -q -e "$text" <<<"$said" && pass "refused: $text" || failed "status $status instead of $want: $said"
}
says 3 "give --token-file" "$orchestra" join "https://$listen" --data "$work/x" --isolation process
sed 's/ca-hash: sha256:..../ca-hash: sha256:0000/' "$work/up/node-token" >"$work/foreign"
says 10 "another cluster, or somebody in between" "$orchestra" join "https://$listen" --token-file "$work/foreign" --data "$work/x" --isolation process
sed 's/^token: ......\./&x/; s/^\(token: ......\.x...............\)./\1/' "$work/up/node-token" >"$work/wrong"
says 10 "bootstrap token" "$orchestra" join "https://$listen" --token-file "$work/wrong" --data "$work/x" --isolation process
says 2 "is not the address of a control plane" "$orchestra" join "$listen" --token-file "$work/up/node-token" --data "$work/x"

join "https://$listen" --token-file "$work/up/node-token" --node-name edge
wait_for 10 kubectl wait --for=condition=Ready node/edge --timeout=1s && pass "the node joined and is Ready" || fail "no Ready node: $(kubectl get nodes 2>&1)"
subject=$(openssl x509 -in "$work/n1/pki/node.crt" -noout -subject -nameopt RFC2253)
[ "$subject" = "subject=CN=system:node:edge,O=system:nodes" ] && [ "$(stat -c %a "$work/n1/pki/node.key")" = 600 ] && pass "it has a certificate of its own" || failed "certificate: $subject"
kubectl --server "https://$listen" --certificate-authority "$work/n1/pki/ca.crt" --client-certificate "$work/n1/pki/node.crt" --client-key "$work/n1/pki/node.key" --kubeconfig /dev/null get secrets -A >/dev/null 2>&1 && failed "the node reads all Secrets" || pass "the node may not read all Secrets"
says 4 "another agent is node edge" "$orchestra" join "https://$listen" --token-file "$work/up/node-token" --node-name edge --data "$work/x" --isolation process

kubectl apply -f - >/dev/null <<'YAML' || fail "apply"
apiVersion: v1
kind: Secret
metadata: {name: word}
stringData: {word: swordfish}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue}
---
apiVersion: v1
kind: Pod
metadata: {name: talk}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: quickstart/web:1
    command: [/bin/sh, -c, 'echo "secret $WORD"; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done']
    env:
    - {name: WORD, valueFrom: {secretKeyRef: {name: word, key: word}}}
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
---
apiVersion: v1
kind: Pod
metadata: {name: serve}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: quickstart/web:1
    command: [/bin/sh, -c, 'mkdir -p $HOME/www; echo hello from serve > $HOME/www/index.html; exec httpd -f -p $POD_IP:8000 -h $HOME/www']
    env:
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: HOME, value: /tmp}
    readinessProbe: {tcpSocket: {port: 8000}, periodSeconds: 1}
YAML
kubectl wait --for=condition=Ready pod/talk pod/serve --timeout=120s >/dev/null && pass "pods run there, with a Secret and a ConfigMap that they name" || { kubectl get pods -o wide; kubectl get events; tail "$work/join.err"; fail "pods are not ready"; }
said() { kubectl logs talk | head -n 1 | matches 'secret swordfish'; }
wait_for 10 said && pass "kubectl logs" || failed "logs: $(kubectl logs talk 2>&1 | head -n 2)"
[ "$(timeout 60 kubectl logs -f talk --tail=1 2>/dev/null | head -n 5 | wc -l)" = 5 ] && pass "kubectl logs -f" || failed "logs -f"
[ "$(kubectl exec talk -- /bin/sh -c 'echo $COLOR; exit 3' 2>/dev/null)" = blue ]; kubectl exec talk -- /bin/sh -c 'exit 3' >/dev/null 2>&1; [ $? = 3 ] && pass "kubectl exec, with its exit status" || failed "exec"
head -c 2000000 /dev/zero | tr '\0' x >"$work/big"
[ "$(kubectl exec -i talk -- /bin/sh -c 'wc -c' <"$work/big" 2>/dev/null | tr -d ' ')" = 2000000 ] && pass "two megabytes through kubectl exec -i" || failed "exec -i"
kubectl port-forward pod/serve 18000:8000 >"$work/forward.out" 2>&1 & forward=$!
cleanups+=('kill $forward 2>/dev/null')
wait_for 10 grep -q Forwarding "$work/forward.out"
curl -s --max-time 30 http://127.0.0.1:18000/ | matches 'hello from serve' && pass "kubectl port-forward" || failed "port-forward: $(cat "$work/forward.out")"
kill $forward 2>/dev/null; wait $forward 2>/dev/null
kubectl patch configmap settings --type merge -p '{"data":{"color":"green"}}' >/dev/null
wait_for 30 bash -c 'kubectl top node edge --no-headers 2>/dev/null | matches edge' && pass "kubectl top has numbers of the node" || failed "top: $(kubectl top node 2>&1)"
summary() { kubectl get --raw /api/v1/nodes/edge/proxy/stats/summary >"$work/summary" 2>&1 && grep -q '"nodeName":"edge"' "$work/summary" && grep -q '"podRef":{"name":"talk","namespace":"default"' "$work/summary"; }
wait_for 20 summary && pass "the node's own summary comes by the tunnel, with its pods" || failed "summary: $(head -c 300 "$work/summary")"

# The control plane is away: nothing stops; a pod that dies is started again.
lines() { tail -n 3 "$work"/n1/pods-log/default_talk_*/c/0.log 2>/dev/null | sed -n 's/.*line \([0-9]*\)$/\1/p' | tail -n 1; }
kill -9 "$master"; wait "$master" 2>/dev/null; master=
before=$(lines)
more() { [ "$(lines)" -gt "$((before + 5))" ]; }
wait_for 10 more && pass "control plane killed: the pod runs on" || failed "the pod stands still at $(lines)"
# of_pods PATTERN: processes whose command line matches, in this script's network, which the pods of level process share. httpd
# answers in a child of the same command line: the oldest is the pod's own.
of_pods() { pgrep "${@:2}" --ns $$ --nslist net -f "$1"; }
victim=$(of_pods 'httpd -f -p 127.*:8000' -o)
kill -9 "$victim"
again() { local now; now=$(of_pods 'httpd -f -p 127.*:8000' -o); [ -n "$now" ] && [ "$now" != "$victim" ]; }
wait_for 20 again && pass "and a container that dies is started again" || failed "httpd was not started again"
# The agent is killed too, and starts while there is still nobody to ask: the pods run on.
kill -9 "$agent"; wait "$agent" 2>/dev/null
: >"$work/join.out"
"$orchestra" join --data "$work/n1" --isolation process >"$work/join.out" 2>>"$work/join.err" & agent=$!
wait_for 10 grep -q 'waiting for the control plane' "$work/join.out" && pass "an agent that starts without a control plane waits for it" || failed "join: $(cat "$work/join.out")"
before=$(lines); wait_for 10 more || failed "the pod stands still at $(lines)"
up
wait_for 30 grep -q '^ready in' "$work/join.out" && pass "it goes on when the control plane is back" || fail "join: $(cat "$work/join.out"; tail "$work/join.err")"
wait_for 20 kubectl wait --for=condition=Ready node/edge pod/talk pod/serve --timeout=1s || failed "not ready again: $(kubectl get nodes,pods 2>&1)"
restarts() { kubectl get pod "$1" -o 'jsonpath={.status.containerStatuses[0].restartCount}'; }
both_told() { [ "$(restarts talk) $(restarts serve)" = "0 1" ]; }  # what the API had before was Ready too
wait_for 20 both_told && pass "one was never restarted, the other once: both are told" || failed "restarts: $(kubectl get pods 2>&1)"
wait_for 20 kubectl logs talk --tail=1 && pass "logs by the new tunnel" || failed "logs: $(kubectl logs talk --tail=1 2>&1)"
kubectl delete pod serve >/dev/null && ! of_pods 'httpd -f -p 127.*:8000' >/dev/null && pass "kubectl delete ends the process" || failed "delete: httpd still runs"

kill -TERM "$agent"; end_of "$agent"; status=$?; agent=
[ $status = 0 ] && of_pods 'echo "secret \$WORD"' >/dev/null && pass "SIGTERM ends the agent with status 0, the pods run on" || failed "SIGTERM: status $status"
# down without a control plane.
kill -9 "$master"; wait "$master" 2>/dev/null; master=
instance=$(cat "$work/n1/instance")
"$orchestra" down --data "$work/n1" --timeout 20 >"$work/down.log" 2>&1 && [ ! -e "/run/orchestra/$instance" ] && ! of_pods 'echo "secret \$WORD"' >/dev/null && pass "orchestra down ends the pods without a control plane" || failed "down: $(cat "$work/down.log"); $(of_pods 'echo "secret' -c) processes left"
finish
