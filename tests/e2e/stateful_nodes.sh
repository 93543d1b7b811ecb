#!/usr/bin/env bash
# A StatefulSet of Redis with claims on three machines in network namespaces, one of which loses its power: its pod
# keeps its name and waits for its data, the others serve on; the machine comes back and with it the same data. Then
# another machine is lost and said to be out of service: what lies on storage that others reach moves, what lies on
# the machine itself waits.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
need_root
need_images
for tool in kubectl ip; do command -v $tool >/dev/null || { skip "$tool is not on PATH"; finish; }; done
# Everything in namespaces of its own, so that nothing is left on the machine; /run/netns only there.
[ -n "${INSIDE:-}" ] || exec unshare --net --mount --propagation private env INSIDE=1 bash -c 'mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up && exec "$0"' "$PWD/tests/e2e/stateful_nodes.sh"
export KUBECONFIG=$work/a/admin.kubeconfig HOME=$work
declare -A pid=([a]= [b]= [c]=)
cleanups+=('for h in a b c; do [ -n "${pid[$h]}" ] && kill -9 "${pid[$h]}" 2>/dev/null && wait "${pid[$h]}" 2>/dev/null; done; for h in c b a; do [ -d "$work/$h" ] && on $h "$orchestra" down --data "$work/$h" --timeout 20 >/dev/null 2>&1; ip netns del $h 2>/dev/null; done; ip link del switch 2>/dev/null')
join() {
  : >"$work/$1.out"
  exec_on "$1" "$orchestra" join https://192.0.2.1:6443 --token-file "$work/a/node-token" --data "$work/$1" --node-name "$1" --isolation full >"$work/$1.out" 2>>"$work/$1.err" & pid[$1]=$!
}
joined() { wait_for 40 grep -q '^ready in' "$work/$1.out" || { cat "$work/$1.out"; tail "$work/$1.err"; fail "node $1 did not join"; }; }
# Everything that runs there ends at once, with its network and what it kept in memory; the disk stays.
power_off() {
  local instance; instance=$(cat "$work/$1/instance")
  ip link set "to-$1" down
  kill -9 "${pid[$1]}"; wait "${pid[$1]}" 2>/dev/null; pid[$1]=
  powerless() {  # a shim has its pod's files open, and is the parent of the pod's programs
    local shim none=yes
    for shim in $(pgrep -x orch-shim); do
      readlink "/proc/$shim/fd"/* 2>/dev/null | grep -q "^/run/orchestra/$instance/" || continue
      kill -9 $(pgrep -P "$shim") "$shim"; none=
    done
    [ -n "$none" ]
  }
  wait_for 10 powerless || failed "processes of $1 do not end"
  ip link del "to-$1"; ip netns del "$1"; rm -rf "/run/orchestra/$instance"
}
make_switch
for h in a b c; do make_machine $h; done

: >"$work/a.out"
exec_on a "$orchestra" up --data "$work/a" --node-name a --isolation full --listen 192.0.2.1:6443 --ingress 192.0.2.1:80 --node-grace 15 >"$work/a.out" 2>"$work/a.err" & pid[a]=$!
wait_for 20 grep -q '^ready in' "$work/a.out" || { tail "$work/a.err"; fail "orchestra up was not ready"; }
ip addr add 192.0.2.100/24 dev switch
for h in b c; do join $h; done
for h in b c; do joined $h; done
wait_for 10 kubectl wait --for=condition=Ready node/a node/b node/c --timeout=1s && pass "three nodes are Ready" || fail "nodes: $(kubectl get nodes 2>&1)"

set_of() { # NAME REPLICAS AFFINITY CLASS
  cat <<YAML
---
apiVersion: v1
kind: Service
metadata: {name: $1}
spec: {clusterIP: None, selector: {app: $1}, ports: [{port: 6379}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: $1}
spec:
  serviceName: $1
  replicas: $2
  selector: {matchLabels: {app: $1}}
  template:
    metadata: {labels: {app: $1}}
    spec:
      terminationGracePeriodSeconds: 2
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      affinity: $3
      containers:
      - name: redis
        image: quickstart/redis:1
        command: [redis-server, --dir, /data, --appendonly, 'yes', --appendfsync, always, --protected-mode, 'no', --save, '']
        readinessProbe: {exec: {command: [redis-cli, ping]}, periodSeconds: 1, timeoutSeconds: 10}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce]$4, resources: {requests: {storage: 1Mi}}}
YAML
}
apart='{podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: db}}}]}}'
rather_c='{nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [c]}]}}]}}'
mkdir -p "$work/shared" && chmod 777 "$work/shared"
{
  set_of db 3 "$apart" ""
  set_of shared 1 "$rather_c" ", storageClassName: everywhere"
  cat <<YAML
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: shared}
spec: {capacity: {storage: 1Mi}, accessModes: [ReadWriteOnce], storageClassName: everywhere, hostPath: {path: $work/shared}}
YAML
} | kubectl apply -f - >/dev/null || fail "apply"
kubectl rollout status statefulset/db --timeout=180s >/dev/null && kubectl rollout status statefulset/shared --timeout=180s >/dev/null && pass "Redis with claims runs on three nodes" || { kubectl get pods,pvc,pv -o wide; kubectl get events; fail "the StatefulSets are not ready"; }
value() { kubectl get "$1" -o "jsonpath=$2" 2>/dev/null; }
node_of() { value "pod/$1" '{.spec.nodeName}'; }
redis() { local pod=$1; shift; timeout 60 kubectl exec "$pod" -- redis-cli "$@" 2>&1; }
order=
for i in 1 2; do
  ready=$(value "pod/db-$((i - 1))" '{.status.conditions[?(@.type=="Ready")].lastTransitionTime}'); made=$(value "pod/db-$i" '{.metadata.creationTimestamp}')
  [[ -n $ready && ! $made < $ready ]] || order="$order db-$i was made at $made, the one before it is ready since $ready;"
done
[ -z "$order" ] && pass "each was made when the one before it was ready" || failed "order: $order"
[ "$(for i in 0 1 2; do node_of db-$i; echo; done | sort | paste -sd' ')" = "a b c" ] && pass "one on each node" || failed "nodes: $(kubectl get pods -o wide)"
for i in 0 1 2; do redis db-$i set who "db-$i of $(node_of db-$i)" >/dev/null; done; redis shared-0 set who shared >/dev/null
names() { # ORDINAL..: each of them answers the others by its name
  local i j said; for i; do for j; do said=$(redis db-$i -h "db-$j.db.default.svc.cluster.local" get who); [[ $said == "db-$j of "* ]] || { echo "db-$i asks db-$j: $said"; return 1; }; done; done
}
wait_for 10 names 0 1 2 && pass "each answers by its name, across nodes" || failed "names: $(names 0 1 2)"

# The machine of one loses its power.
on_b=$(for i in 0 1 2; do [ "$(node_of db-$i)" = b ] && echo $i; done); others=$(for i in 0 1 2; do [ "$i" = "$on_b" ] || echo $i; done)
uid=$(value "pod/db-$on_b" '{.metadata.uid}')
power_off b
lost() { [ "$(value node/"$1" '{.status.conditions[?(@.type=="Ready")].status}')" = Unknown ]; }
wait_for 90 lost b && pass "a node without power is Unknown" || failed "node b: $(kubectl get node b)"
leaving() { [ -n "$(value "pod/db-$on_b" '{.metadata.deletionTimestamp}')" ]; }
wait_for 30 leaving || failed "db-$on_b is not told to end: $(kubectl get pods -o wide)"
names $others >"$work/names" && pass "the others serve on" || failed "names: $(cat "$work/names")"
# A pod of the same name elsewhere would come at once, where it came at all: the others' writes give it the time.
for n in $(seq 40); do redis db-"${others%%$'\n'*}" incr meanwhile >/dev/null; done
[ "$(value "pod/db-$on_b" '{.metadata.uid}')" = "$uid" ] && [ "$(kubectl get pods -l app=db --no-headers | wc -l)" = 3 ] && pass "no second db-$on_b is made while the first may run" || failed "pods: $(kubectl get pods -o wide)"
make_machine b; join b; joined b
back() { [ "$(value "pod/db-$1" '{.status.conditions[?(@.type=="Ready")].status}')" = True ] && [ -z "$(value "pod/db-$1" '{.metadata.deletionTimestamp}')" ]; }
wait_for 60 back "$on_b" && [ "$(value "pod/db-$on_b" '{.metadata.uid}')" != "$uid" ] && pass "the machine is back, and so is db-$on_b as a new pod" || { kubectl get pods -o wide; kubectl describe pod "db-$on_b" | tail -n 20; tail "$work/b.err"; failed "db-$on_b is not back"; }
[ "$(redis "db-$on_b" get who) $(node_of "db-$on_b")" = "db-$on_b of b b" ] && pass "on its node, with its data" || failed "db-$on_b on $(node_of "db-$on_b"): $(redis "db-$on_b" get who)"
wait_for 20 names 0 1 2 && pass "and by its name again" || failed "names: $(names 0 1 2)"

# Another one is lost, and somebody says that it is off.
on_c=$(for i in 0 1 2; do [ "$(node_of db-$i)" = c ] && echo $i; done)
[ "$(node_of shared-0)" = c ] || failed "shared-0 is on $(node_of shared-0)"
uid=$(value pod/shared-0 '{.metadata.uid}')
power_off c
wait_for 90 lost c || failed "node c: $(kubectl get node c)"
kubectl taint nodes c node.kubernetes.io/out-of-service=nodeshutdown:NoExecute >/dev/null || failed "taint"
moved() { [ "$(value pod/shared-0 '{.status.conditions[?(@.type=="Ready")].status}')" = True ] && [ "$(value pod/shared-0 '{.metadata.uid}')" != "$uid" ]; }
wait_for 60 moved && [ "$(node_of shared-0)" != c ] && pass "out of service: the pod on shared storage is made anew elsewhere" || { kubectl get pods -o wide; failed "shared-0 has not moved: $(kubectl get node c -o yaml | grep -A3 taints)"; }
[ "$(redis shared-0 get who)" = shared ] && pass "with its data" || failed "shared-0: $(redis shared-0 get who)"
stays() { [ "$(value "pod/db-$on_c" '{.status.phase} {.spec.nodeName}')" = "Pending " ] && value "pod/db-$on_c" '{.status.conditions[?(@.type=="PodScheduled")].message}' | matches "PersistentVolume.s node affinity"; }
wait_for 30 stays && pass "the one whose data are on that machine waits, and says why" || failed "db-$on_c: $(value "pod/db-$on_c" '{.status}')"
make_machine c; join c; joined c
kubectl taint nodes c node.kubernetes.io/out-of-service- >/dev/null || failed "untaint"
wait_for 60 back "$on_c" && [ "$(redis "db-$on_c" get who)" = "db-$on_c of c" ] && pass "back with its machine, and the same data" || { kubectl get pods -o wide; tail "$work/c.err"; failed "db-$on_c: $(redis "db-$on_c" get who)"; }
[ "$(redis "db-${others%%$'\n'*}" get meanwhile)" = 40 ] && pass "what was written meanwhile is there" || failed "meanwhile: $(redis "db-${others%%$'\n'*}" get meanwhile)"
finish
