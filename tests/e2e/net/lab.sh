# Shared by the scripts of this folder, sourced: three machines (a with the control plane, b, c) in network namespaces on
# one switch, isolation full, and pods on each. The switch is outside of all three: its ports count what really went.
source tests/e2e/lib.sh
need_root
need_images
for tool in kubectl ip; do command -v $tool >/dev/null || { skip "$tool is not on PATH"; finish; }; done
# Everything in namespaces of its own, so that nothing is left on the machine; /run/netns only there.
[ -n "${INSIDE:-}" ] || exec unshare --net --mount --propagation private env INSIDE=1 bash -c 'mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up && exec "$0"' "$PWD/tests/e2e/net/$(basename "$0")"
export KUBECONFIG=$work/a/admin.kubeconfig HOME=$work
declare -A pid=([a]= [b]= [c]=)
cleanups+=('for h in a b c; do [ -n "${pid[$h]}" ] && { kill -9 "${pid[$h]}"; wait "${pid[$h]}"; } 2>/dev/null; done; for h in c b a; do [ -d "$work/$h" ] && on $h "$orchestra" down --data "$work/$h" --timeout 20 >/dev/null 2>&1; ip netns del $h 2>/dev/null; done; ip link del switch 2>/dev/null')
# What the switch got from a machine, and sent to it.
from_port() { link_packets "to-$1" rx; }
to_port() { link_packets "to-$1" tx; }

# start_lab FLAGS..: for `orchestra up` on machine a.
start_lab() {
  make_switch
  local h
  for h in a b c; do make_machine $h; done
  ip addr add 192.0.2.100/24 dev switch
  exec_on a "$orchestra" up --data "$work/a" --node-name a --isolation full --listen 192.0.2.1:6443 --ingress 192.0.2.1:80 --node-grace 15 "$@" >"$work/a.out" 2>"$work/a.err" & pid[a]=$!
  wait_for 30 grep -q '^ready in' "$work/a.out" || { tail "$work/a.err"; fail "orchestra up was not ready"; }
  for h in b c; do
    exec_on $h "$orchestra" join https://192.0.2.1:6443 --token-file "$work/a/node-token" --data "$work/$h" --node-name $h --isolation full >"$work/$h.out" 2>"$work/$h.err" & pid[$h]=$!
  done
  for h in b c; do wait_for 30 grep -q '^ready in' "$work/$h.out" || { cat "$work/$h.out"; tail "$work/$h.err"; fail "node $h did not join"; }; done
  wait_for 20 kubectl wait --for=condition=Ready node/a node/b node/c --timeout=1s || fail "nodes: $(kubectl get nodes 2>&1)"
}

# start_web: one pod of app=web on each machine, which says its node's name on 8000, a Service and a headless one.
start_web() {
  kubectl apply -f - >/dev/null <<'YAML' || fail "apply"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers:
      - name: c
        image: quickstart/web:1
        command: [/bin/sh, -c, 'mkdir -p /tmp/www; echo "I am $NODE" > /tmp/www/index.html; exec httpd -f -p 8000 -h /tmp/www']
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        readinessProbe: {httpGet: {path: /index.html, port: 8000}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8000}]}
---
apiVersion: v1
kind: Service
metadata: {name: webs}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8000}]}
YAML
  kubectl rollout status daemonset/web --timeout=180s >/dev/null || { kubectl get pods -o wide; tail "$work"/?.err; fail "web did not become ready"; }
}
pod_on() { kubectl get pods -l app=web --field-selector=spec.nodeName="$1" -o 'jsonpath={.items[0].metadata.name}'; }
ip_of() { kubectl get pod "$1" -o 'jsonpath={.status.podIP}'; }
# in_pod POD SCRIPT
in_pod() { kubectl exec "$1" -- /bin/sh -c "$2"; }
# answers_in TIMES POD HOST PORT: which machine's pod answers there, asked from a pod; a line for each time.
answers_in() { in_pod "$2" "for i in \$(seq $1); do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 $3 $4 | tail -n 1 | grep . || echo; done" 2>/dev/null; }
answer_in() { answers_in 1 "$@"; }
# addresses_in POD NAME: what a headless Service's name leads to, asked from a pod; fails when nothing is said.
addresses_in() { in_pod "$1" "nslookup $2.default.svc.cluster.local" 2>/dev/null | sed -n 's/^Address: \(10\.244\.[0-9.]*\)$/\1/p' | grep .; }
# leads_to_all POD HOST PORT: within ten seconds all three answer there, and nothing else comes: a Service chooses at random, of
# twenty answers one of them is left out by chance once in a thousand times, so more are asked for. seen is what came at last.
leads_to_all() { wait_for 10 all_answer "$@"; }
all_answer() { seen=$(answers_in 20 "$@" | sort -u | paste -sd' '); [ "$seen" = "I am a I am b I am c" ]; }
