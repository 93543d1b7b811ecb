#!/usr/bin/env bash
# Three machines in network namespaces on one switch: a control plane with a node and two joined nodes, isolation
# full. By hand with kubectl what people do every day: rollout, scale, pods that reach each other and Services across
# nodes, logs, exec, cp, debug, attach, cordon, drain with a budget, uncordon, a node that dies and its pods that move, and the end.
# beside: node_peers
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
need_root
need_images
for tool in kubectl ip; do command -v $tool >/dev/null || { skip "$tool is not on PATH"; finish; }; done
# Everything in namespaces of its own, so that nothing is left on the machine; /run/netns only there.
[ -n "${INSIDE:-}" ] || exec unshare --net --mount --propagation private env INSIDE=1 bash -c 'mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up && exec "$0"' "$PWD/tests/e2e/nodes.sh"
export KUBECONFIG=$work/a/admin.kubeconfig HOME=$work
declare -A pid=([a]= [b]= [c]=)
cleanups+=('for h in a b c; do [ -n "${pid[$h]}" ] && kill -9 "${pid[$h]}" 2>/dev/null && wait "${pid[$h]}" 2>/dev/null; done; for h in c b a; do [ -d "$work/$h" ] && on $h "$orchestra" down --data "$work/$h" --timeout 20 >/dev/null 2>&1; ip netns del $h 2>/dev/null; done; ip link del switch 2>/dev/null')
make_switch
for h in a b c; do make_machine $h; done
ip addr add 192.0.2.100/24 dev switch

exec_on a "$orchestra" up --data "$work/a" --node-name a --isolation full --listen 192.0.2.1:6443 --ingress 192.0.2.1:80 --node-grace 15 >"$work/a.out" 2>"$work/a.err" & pid[a]=$!
wait_for 20 grep -q '^ready in' "$work/a.out" || { tail "$work/a.err"; fail "orchestra up was not ready"; }
for h in b c; do
  exec_on $h "$orchestra" join https://192.0.2.1:6443 --token-file "$work/a/node-token" --data "$work/$h" --node-name $h --isolation full >"$work/$h.out" 2>"$work/$h.err" & pid[$h]=$!
done
for h in b c; do wait_for 30 grep -q '^ready in' "$work/$h.out" || { cat "$work/$h.out"; tail "$work/$h.err"; fail "node $h did not join"; }; done
wait_for 10 kubectl wait --for=condition=Ready node/a node/b node/c --timeout=1s && pass "three nodes are Ready" || fail "nodes: $(kubectl get nodes 2>&1)"
ranges=$(kubectl get nodes -o 'jsonpath={range .items[*]}{.spec.podCIDR} {.status.addresses[0].address}{"\n"}{end}')
[ "$(sort -u <<<"$ranges" | wc -l)" = 3 ] && grep -q '^10.244.0.0/24 192.0.2.1$' <<<"$ranges" && pass "each has a range of pod addresses and an address of its own" || failed "ranges: $ranges"

kubectl apply -f - >/dev/null <<'YAML' || fail "apply"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - {weight: 1, preference: {matchExpressions: [{key: kubernetes.io/os, operator: In, values: [linux]}]}}
      containers:
      - name: c
        image: quickstart/web:1
        command: [/bin/sh, -c, 'mkdir -p /tmp/www; echo "$VERSION on $NODE" > /tmp/www/index.html; echo started on $NODE; exec httpd -f -p 8000 -h /tmp/www']
        env:
        - {name: VERSION, value: one}
        - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        readinessProbe: {httpGet: {path: /index.html, port: 8000}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8000}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}
YAML
kubectl rollout status deployment/web --timeout=120s >/dev/null && pass "kubectl rollout status" || { kubectl get pods -o wide; tail "$work"/?.err; fail "web did not become ready"; }
kubectl scale deployment/web --replicas=6 >/dev/null && kubectl rollout status deployment/web --timeout=120s >/dev/null && pass "kubectl scale" || failed "scale: $(kubectl get pods -o wide)"
nodes_of() { kubectl get pods -l app=web --field-selector=status.phase=Running -o 'jsonpath={range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u | tr '\n' ' '; }
[ "$(nodes_of)" = "a b c " ] && pass "pods on all three nodes" || failed "pods on: $(nodes_of)"

# Every pod reaches every pod and the Service, by address and by name.
addresses=$(kubectl get pods -l app=web -o 'jsonpath={.items[*].status.podIP}')
all_reached() {
  local h from said; unreached=
  for h in a b c; do
    from=$(kubectl get pods -l app=web --field-selector=spec.nodeName=$h -o 'jsonpath={.items[0].metadata.name}')
    said=$(kubectl exec "$from" -- /bin/sh -c "ask() { printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 \$1 \$2 | grep -q 'one on' || echo \$1; }; for i in $addresses; do ask \$i 8000; done; ask web.default.svc.cluster.local 80" 2>&1)
    [ -z "$said" ] || unreached="$unreached from $h: $said;"
  done
  [ -z "$unreached" ]
}
wait_for 20 all_reached && pass "pods reach each other and the Service by name, on and across nodes" || failed "not reached: $unreached"
far=$(kubectl get pods -l app=web --field-selector=spec.nodeName=b -o 'jsonpath={.items[0].metadata.name}')
logged() { [ "$(kubectl logs "$far")" = "started on b" ]; }
wait_for 10 logged && [ "$(kubectl exec "$far" -- hostname)" = "$far" ] && pass "kubectl logs and exec on a joined node" || failed "logs: $(kubectl logs "$far" 2>&1)"
echo copied >"$work/file"; kubectl cp "$work/file" "$far:/tmp/file" >/dev/null 2>&1; [ "$(kubectl exec "$far" -- cat /tmp/file 2>/dev/null)" = copied ] && pass "kubectl cp" || failed "cp"

kubectl cp "$far:/tmp/file" "$work/back" >/dev/null 2>&1; [ "$(cat "$work/back" 2>/dev/null)" = copied ] && pass "and back" || failed "cp from the pod"
kubectl exec "$far" -- /bin/sh -c 'exit 3' >/dev/null 2>&1; [ $? = 3 ] && [ "$(printf 'one\ntwo\n' | kubectl exec -i "$far" -- wc -l | tr -d ' ')" = 2 ] && pass "kubectl exec -i, and its exit status" || failed "exec -i"
kubectl get --raw "/api/v1/namespaces/default/pods/$far:8000/proxy/index.html" >"$work/proxied" 2>&1 && grep -q '^one on b$' "$work/proxied" && kubectl get --raw "/api/v1/namespaces/default/services/web:80/proxy/" 2>/dev/null | matches '^one on [abc]$' && pass "the API's proxy reaches the pod there, and the Service" || failed "proxy: $(cat "$work/proxied")"
kubectl debug "$far" --image=quickstart/web:1 --quiet -c looker -- /bin/sh -c 'hostname; printf "GET / HTTP/1.0\r\n\r\n" | nc 127.0.0.1 8000 | tail -n 1' >/dev/null 2>&1
looked() { [ "$(kubectl logs "$far" -c looker 2>/dev/null | paste -sd' ')" = "$far one on b" ]; }
wait_for 20 looked && pass "kubectl debug: a container beside those of a pod there, in its network" || failed "debug: $(kubectl logs "$far" -c looker 2>&1)"
kubectl run parrot --image=quickstart/web:1 --restart=Never --overrides='{"spec":{"nodeName":"b","terminationGracePeriodSeconds":1}}' --stdin --attach=false --command -- /bin/sh -c 'while read -r word; do echo "got $word"; done' >/dev/null 2>&1
kubectl wait --for=condition=Ready pod/parrot --timeout=120s >/dev/null || failed "parrot: $(kubectl get pod parrot -o yaml)"
# The first goes in before its answer may come back: attach has no past, so the pipe stays open until it is seen.
mkfifo "$work/words"; timeout 120 kubectl attach -i parrot <"$work/words" >"$work/attached" 2>/dev/null & attached=$!
exec 8>"$work/words"; echo hello >&8
wait_for 20 grep -q '^got hello' "$work/attached" && pass "kubectl attach -i: words go in, answers come out" || failed "attach: $(cat "$work/attached")"
exec 8>&-; wait $attached; kubectl delete pod parrot --wait=false >/dev/null

kubectl set env deployment/web VERSION=two >/dev/null && kubectl rollout status deployment/web --timeout=120s >/dev/null
versions() { for i in $(kubectl get pods -l app=web -o 'jsonpath={.items[*].status.podIP}'); do on a curl -s --max-time 3 "http://$i:8000/"; done | cut -d' ' -f1 | sort -u; }
all_two() { [ "$(versions)" = two ]; }  # the last old ones are still ending
wait_for 20 all_two && pass "a rollout replaces all pods" || failed "versions: $(versions)"
kubectl rollout undo deployment/web >/dev/null && kubectl rollout status deployment/web --timeout=120s >/dev/null && pass "kubectl rollout undo" || failed "undo"

on_c() { kubectl get pods -l app=web --field-selector=spec.nodeName=c -o name | sort; }
kubectl cordon c >/dev/null; before=$(on_c); kubectl scale deployment/web --replicas=9 >/dev/null
kubectl rollout status deployment/web --timeout=120s >/dev/null
[ -z "$(comm -13 <(echo "$before") <(on_c))" ] && pass "kubectl cordon: no new pod comes" || failed "cordon: new on c: $(comm -13 <(echo "$before") <(on_c))"
kubectl drain c --ignore-daemonsets --delete-emptydir-data --timeout=120s >"$work/drain" 2>&1; status=$?
[ $status = 0 ] && [ "$(kubectl get pods -l app=web --field-selector=spec.nodeName=c --no-headers 2>/dev/null | wc -l)" = 0 ] && pass "kubectl drain empties the node within the budget" || failed "drain: $(tail -n 3 "$work/drain")"
# Pods go from where most are, by the numbers of before: of nine on two nodes three fewer leave some on each.
kubectl uncordon c >/dev/null; kubectl scale deployment/web --replicas=6 >/dev/null; kubectl rollout status deployment/web --timeout=120s >/dev/null

# A machine dies: its cable and its processes go. The node is seen as lost, its pods move.
gone=$(kubectl get pods -l app=web --field-selector=spec.nodeName=b -o 'jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp}{"\n"}{end}' | awk 'NF == 1 && !n++ {print $1}')
[ -n "$gone" ] || fail "no pod on b to lose: $(kubectl get pods -o wide)"
ip link set to-b down; kill -9 "${pid[b]}"; wait "${pid[b]}" 2>/dev/null; pid[b]=
begin=$(date +%s)
lost() { [ "$(kubectl get node b -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = Unknown ]; }
wait_for 90 lost && pass "a dead node is Unknown after $(( $(date +%s) - begin )) s" || failed "node b: $(kubectl get node b)"
moved() { [ "$(kubectl get pods -l app=web -o 'jsonpath={range .items[*]}{.spec.nodeName} {.status.conditions[?(@.type=="Ready")].status} {.metadata.deletionTimestamp}{"\n"}{end}' | grep -c '^[ac] True $')" -ge 6 ]; }
wait_for 40 moved && pass "its pods run elsewhere after $(( $(date +%s) - begin )) s" || failed "pods: $(kubectl get pods -o wide)"
# A question that comes while its tunnel may still live, for 40 s, has no answer for 30 s.
unconnected() { timeout 120 kubectl logs "$gone" >"$work/lost" 2>&1; grep -q 'node b is not connected' "$work/lost"; }
wait_for 60 unconnected && pass "its logs answer that the node is not connected" || failed "logs of a pod on the dead node: $(cat "$work/lost")"
finish
