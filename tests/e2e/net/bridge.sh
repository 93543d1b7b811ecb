#!/usr/bin/env bash
# Three machines, of which a has its pods on a bridge (`up --pod-network bridge`) and the others are routed: pods, Services and
# names in a and across, whatever others do with bridge-nf-call-iptables; a kill -9, the next start, and the end of it.
set -uo pipefail
cd "$(dirname "$0")/../../.."
source tests/e2e/net/lab.sh
[ -e /proc/sys/net/bridge ] || { skip "the kernel's module br_netfilter is not there"; finish; }
start_lab --pod-network bridge
start_web
kubectl apply -f - >/dev/null <<'YAML' || fail "apply"
apiVersion: v1
kind: Pod
metadata: {name: beside, labels: {app: beside}}
spec:
  nodeName: a
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: quickstart/web:1
    command: [/bin/sh, -c, 'mkdir -p /tmp/www; echo "I am beside" > /tmp/www/index.html; exec httpd -f -p 8000 -h /tmp/www']
    ports: [{containerPort: 8000, hostPort: 8088}]
---
apiVersion: v1
kind: Service
metadata: {name: beside}
spec: {type: NodePort, selector: {app: beside}, ports: [{port: 80, targetPort: 8000, nodePort: 30080}]}
YAML
wait_for 20 kubectl wait --for=condition=Ready pod/beside --timeout=1s || fail "pod beside: $(kubectl get pod beside -o yaml)"
ports() { on a ip -o link show type bridge_slave | grep -c ': orc'; }
[ "$(ports)" = 2 ] && pass "the pods of a are ports of one bridge" || failed "links: $(on a ip -o link)"
said() { answer_in "$1" "$2" "$3"; }
for filter in 1 0; do
  on a sh -c "echo $filter > /proc/sys/net/bridge/bridge-nf-call-iptables" || failed "sysctl"
  wrong=
  for from in "$(pod_on a)" beside "$(pod_on b)"; do
    for to in "$(ip_of beside) 8000" "beside.default.svc.cluster.local 80"; do
      [ "$(said "$from" $to)" = "I am beside" ] || wrong="$wrong $from to $to;"
    done
  done
  [ "$(on a curl -s --max-time 3 "http://$(kubectl get service beside -o 'jsonpath={.spec.clusterIP}')/")" = "I am beside" ] || wrong="$wrong node to Service;"
  for port in 30080 8088; do [ "$(curl -s --max-time 3 "http://192.0.2.1:$port/")" = "I am beside" ] || wrong="$wrong outside to $port;"; done
  [ -z "$wrong" ] && pass "with bridge-nf-call-iptables $filter: direct, by the Service's name, itself, the node, from outside" || failed "with $filter: $wrong"
  for from in a b c; do
    leads_to_all "$(pod_on $from)" web.default.svc.cluster.local 80 && pass "with $filter from $from a Service of all three" || failed "with $filter from $from: $seen"
  done
done
kill -9 "${pid[a]}"; wait "${pid[a]}" 2>/dev/null; pid[a]=
[ "$(on a curl -s --max-time 3 http://192.0.2.1:8088/)" = "I am beside" ] && pass "while the program is not there the bridge goes on" || failed "host port is closed"
restart() { exec_on a "$orchestra" up --data "$work/a" --node-name a --isolation full --listen 192.0.2.1:6443 --ingress 192.0.2.1:80 --node-grace 15 "$@" >"$work/a.out" 2>"$work/a.err"; }
(restart --pod-network routed) && failed "another mode was taken" || { grep -q 'attached in mode bridge' "$work/a.err" && pass "another mode is refused" || failed "$(cat "$work/a.err")"; }
: >"$work/a.out"
restart & pid[a]=$!
wait_for 30 grep -q '^ready in' "$work/a.out" || { tail "$work/a.err"; fail "orchestra up was not ready again"; }
again() { [ "$(ports)" = 2 ] && [ "$(said "$(pod_on a)" beside.default.svc.cluster.local 80)" = "I am beside" ]; }
wait_for 20 again && pass "the next start has the mode and the ports of the first" || failed "links: $(on a ip -o link)"
on a "$orchestra" down --data "$work/a" --timeout 20 >"$work/down.log" 2>&1 || failed "down: $(cat "$work/down.log")"
end_of "${pid[a]}" 2>/dev/null; pid[a]=
left=$(on a nft list tables | grep orc_; on a ip -o link | grep orc)
[ -z "$left" ] && pass "orchestra down takes all of it off the machine" || failed "left: $left"
finish
