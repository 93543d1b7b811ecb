#!/usr/bin/env bash
# What a pod asks of the network, by kubectl in a running cluster: a port of the machine, a bandwidth that is none, and
# (a second cluster) a network by Debian's CNI plugins. Everything is gone after `orchestra down`.
set -uo pipefail
cd "$(dirname "$0")/../../.."
source tests/e2e/lib.sh
need_root
need_images
command -v kubectl >/dev/null || { skip "kubectl is not on PATH"; finish; }
[ -n "${INSIDE:-}" ] || exec unshare --net env INSIDE=1 bash -c 'ip link set lo up && exec "$0"' "$PWD/tests/e2e/net/pod_wishes.sh"
export HOME=$work
owner=
cleanups+=('[ -n "$owner" ] && kill -9 "$owner" 2>/dev/null; for d in "$work"/full "$work"/cni; do [ -d "$d" ] && "$orchestra" down --data "$d" >/dev/null 2>&1; done; ip link del cni0 2>/dev/null')
up() {  # NAME FLAGS..
  local name=$1; shift
  export KUBECONFIG=$work/$name/admin.kubeconfig
  : >"$work/up.out"
  "$orchestra" up --data "$work/$name" --isolation full --listen 127.0.0.1:0 --ingress 127.0.0.1:0 "$@" >"$work/up.out" 2>"$work/up.err" &
  owner=$!
  wait_for 30 grep -q '^ready in' "$work/up.out" || { tail -n 5 "$work/up.err"; fail "orchestra up was not ready"; }
}
down() {
  instance=$(cat "$work/$1/instance")
  "$orchestra" down --data "$work/$1" >"$work/down.log" 2>&1 || { cat "$work/down.log"; failed "orchestra down"; }
  [ -z "$(nft list tables | grep "$instance"; ip -o link | grep "$instance")" ] && pass "orchestra down takes links and tables of $1 away" || failed "left: $(nft list tables; ip -o link)"
  end_of "$owner" 2>/dev/null; owner=
}
pod() {  # NAME ANNOTATIONS PORTS
  kubectl apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1, annotations: {$2}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: quickstart/web:1
    command: [/bin/sh, -c, 'mkdir -p /tmp/www; echo "I am $1" > /tmp/www/index.html; exec httpd -f -p 8000 -h /tmp/www']
    ports: [{containerPort: 8000$3}]
    readinessProbe: {httpGet: {path: /index.html, port: 8000}, periodSeconds: 1}
YAML
}
ready() { kubectl wait --for=condition=Ready "pod/$1" --timeout=120s >/dev/null; }
says() { curl -s --max-time 10 "http://$1/"; }

up full
pod web '' ', hostPort: 8088' && ready web || { kubectl describe pod web; fail "pod web did not become ready"; }
is_web() { [ "$(says "$1")" = "I am web" ]; }
wait_for 10 is_web 127.0.0.1:8088 && pass "a hostPort on 127.0.0.1" || failed "127.0.0.1:8088 says $(says 127.0.0.1:8088)"
gateway=$(ip -o -4 addr show | awk '/orc-/ {sub("/.*", "", $4); print $4}')
wait_for 10 is_web "$gateway:8088" && pass "and on the machine's other address" || failed "$gateway:8088 says $(says "$gateway:8088")"
kill -9 "$owner"; wait "$owner" 2>/dev/null
[ "$(says 127.0.0.1:8088)" = "I am web" ] && pass "also while the program is not there" || failed "not served without the program"
up full
[ "$(says 127.0.0.1:8088)" = "I am web" ] && pass "and after it came back" || failed "not served after a restart"
pod second '' ', hostPort: 8088'
waits() { kubectl get pod second -o 'jsonpath={.status.conditions[?(@.type=="PodScheduled")].message}' | matches 'free ports'; }
wait_for 10 waits && pass "a second pod with that port finds no node" || failed "pod second: $(kubectl describe pod second | tail -n 5)"
kubectl delete pod second web --wait=true >/dev/null 2>&1
refused() { ! says 127.0.0.1:8088 >/dev/null; }
wait_for 10 refused && pass "the port goes with its pod" || failed "127.0.0.1:8088 still answers"
pod slow 'kubernetes.io/egress-bandwidth: fast' ''
told() { kubectl get events -o 'jsonpath={.items[*].message}' | matches 'kubernetes.io/egress-bandwidth is "fast"'; }
wait_for 10 told && pass "a bandwidth that is none is told by an event" || failed "events: $(kubectl get events)"
down full

if [ ! -x /usr/lib/cni/bridge ]; then skip "Debian's containernetworking-plugins is not installed"; finish; fi
mkdir "$work/net.d"
cat >"$work/net.d/10-lab.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "lab", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true,
   "ipam": {"type": "host-local", "dataDir": "$work/leases", "ranges": [[{"subnet": "10.22.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
up cni --cni "$work/net.d"
pod web '' '' && ready web || { kubectl describe pod web; fail "pod web did not become ready with CNI"; }
address=$(kubectl get pod web -o 'jsonpath={.status.podIP}')
[ "${address%.*}" = 10.22.0 ] && wait_for 10 is_web "$address:8000" && pass "a pod on Debian's bridge has its address and is reached" || failed "address $address says $(says "$address:8000")"
kubectl delete pod web --wait=true >/dev/null 2>&1
given_back() { [ ! -e "$work/leases/lab/$address" ]; }
wait_for 10 given_back && pass "its lease goes with it" || failed "leases: $(ls "$work/leases/lab")"
down cni
finish
