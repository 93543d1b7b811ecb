#!/usr/bin/env bash
# Three machines whose pods and Services have addresses of both families, though the machines themselves know each other by
# IPv4 only: pods, names and Services by IPv6 across them, and a policy that holds for both.
# beside: net/hosts
set -uo pipefail
cd "$(dirname "$0")/../../.."
source tests/e2e/net/lab.sh
ranges=(--pod-cidr 10.244.0.0/16,fd00:10:244::/96 --service-cidr 10.96.0.0/16,fd00:10:96::/112)
start_lab "${ranges[@]}"
start_web
six_of() { kubectl get pod "$1" -o 'jsonpath={.status.podIPs[1].ip}'; }
own=$(kubectl get nodes -o 'jsonpath={range .items[*]}{.spec.podCIDRs[1]}{"\n"}{end}' | sort -u | grep -c '^fd00:10:244::af4:.*/120$')
[ "$own" = 3 ] && pass "each node has a range of IPv6 of its own" || failed "ranges: $(kubectl get nodes -o 'jsonpath={.items[*].spec.podCIDRs}')"
wrong=
for h in a b c; do
  pod=$(pod_on $h)
  ips=$(kubectl get pod "$pod" -o 'jsonpath={.status.podIPs[*].ip}')
  [[ $ips =~ ^10\.244\.[0-9.]+\ fd00:10:244::af4:[0-9a-f]+$ ]] && [ "${ips%% *}" = "$(ip_of "$pod")" ] || wrong="$wrong $pod: $ips;"
done
[ -z "$wrong" ] && pass "each pod has two addresses, IPv4 first" || failed "$wrong"
reaches() { said=$(answer_in "$(pod_on $1)" "$(six_of "$(pod_on $2)")" 8000); [ "$said" = "I am $2" ]; }
unreached=
for from in a b c; do
  for to in a b c; do
    wait_for 10 reaches $from $to || unreached="$unreached $from to $to: $said;"
  done
done
[ -z "$unreached" ] && pass "every pod reaches every pod by IPv6" || failed "$unreached"

kubectl apply -f - >/dev/null <<'YAML' || fail "apply"
apiVersion: v1
kind: Service
metadata: {name: both}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8000}]}
---
apiVersion: v1
kind: Service
metadata: {name: six}
spec: {ipFamilies: [IPv6], selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8000}]}
---
apiVersion: v1
kind: Service
metadata: {name: boths}
spec: {clusterIP: None, ipFamilyPolicy: RequireDualStack, selector: {app: web}, ports: [{name: http, port: 8000}]}
YAML
[ "$(kubectl get service web -o 'jsonpath={.spec.ipFamilyPolicy} {.spec.ipFamilies[*]}')" = "SingleStack IPv4" ] && pass "a Service that asks for nothing has IPv4" || failed "$(kubectl get service web -o yaml)"
slices() { kubectl get endpointslices -l kubernetes.io/service-name=both -o 'jsonpath={range .items[*]}{.addressType}{"\n"}{end}' | sort | tr '\n' ' '; }
two_slices() { [ "$(slices)" = "IPv4 IPv6 " ]; }
wait_for 10 two_slices && pass "its endpoints are a slice for each family" || failed "slices: $(slices)"
virtual=$(kubectl get service both -o 'jsonpath={.spec.clusterIPs[1]}')
[[ $virtual == fd00:10:96::* ]] && pass "a Service of both families has a virtual address of IPv6" || failed "clusterIPs: $(kubectl get service both -o 'jsonpath={.spec.clusterIPs}')"
lookup() { in_pod "$(pod_on "$1")" "nslookup -type=$2 $3.default.svc.cluster.local" 2>/dev/null; }
has_name() { lookup a AAAA both | matches "$virtual"; }
wait_for 10 has_name && pass "its name has an AAAA record" || failed "$(lookup a AAAA both)"
headless() { for h in a b c; do lookup "$1" AAAA boths | matches "$(six_of "$(pod_on $h)")" || return 1; done; [ "$(addresses_in "$(pod_on "$1")" boths | sort -u | wc -l)" = 3 ]; }
for from in a b c; do
  wait_for 10 headless $from && pass "from $from the headless name has each pod's two addresses" || failed "from $from: $(lookup $from AAAA boths)"
  leads_to_all "$(pod_on $from)" "$virtual" 80 && pass "from $from its address of IPv6 leads to all three" || failed "from $from: $seen"
  leads_to_all "$(pod_on $from)" six.default.svc.cluster.local 80 && pass "from $from a Service of IPv6 alone does so, by its name" || failed "from $from: $seen"
done

kubectl apply -f - >/dev/null <<'YAML' || fail "apply"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: none-to-web}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
YAML
to=$(pod_on b)
denied() { [ -z "$(answer_in "$(pod_on a)" "$(ip_of "$to")" 8000)$(answer_in "$(pod_on a)" "$(six_of "$to")" 8000)" ]; }
wait_for 20 denied && pass "a policy that denies holds for both families" || failed "still reached"
kubectl delete networkpolicy none-to-web >/dev/null
allowed() { [ "$(answer_in "$(pod_on a)" "$(ip_of "$to")" 8000) $(answer_in "$(pod_on a)" "$(six_of "$to")" 8000)" = "I am b I am b" ]; }
wait_for 20 allowed && pass "and gone it opens both" || failed "still denied"

kubectl patch service both --type merge -p '{"spec":{"ipFamilyPolicy":"SingleStack"}}' >/dev/null || failed "patch"
refused() { [ -z "$(answer_in "$(pod_on a)" "$virtual" 80)" ]; }
wait_for 10 refused && pass "a Service that is lowered to one family gives its second address back" || failed "still served: $virtual"
[ "$(kubectl get service both -o 'jsonpath={.spec.clusterIPs[*]}' | wc -w)" = 1 ] && pass "and keeps its first" || failed "$(kubectl get service both -o yaml)"

kubectl apply -f - >/dev/null <<'YAML' || fail "apply"
apiVersion: v1
kind: Pod
metadata: {name: ported}
spec:
  nodeName: a
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: quickstart/web:1
    command: [/bin/sh, -c, 'mkdir -p /tmp/www; echo "I am ported" > /tmp/www/index.html; exec httpd -f -p 8000 -h /tmp/www']
    ports: [{containerPort: 8000, hostPort: 8088}]
YAML
ported() { [ "$(on a curl -s --max-time 3 'http://[::1]:8088/')$(on a curl -s --max-time 3 http://127.0.0.1:8088/)" = "I am portedI am ported" ]; }
wait_for 20 ported && pass "a hostPort is on the machine's addresses of both families" || failed "it says $(on a curl -s 'http://[::1]:8088/')"

# The program of machine a is killed: what the kernel was told serves on, and the next start goes on from there.
six=$(kubectl get service six -o 'jsonpath={.spec.clusterIP}')
kill -9 "${pid[a]}"; wait "${pid[a]}" 2>/dev/null; pid[a]=
from_host() { on a curl -s --max-time 3 "http://[$six]/"; }
[[ $(from_host) == "I am "* ]] && pass "while the program is not there a Service of IPv6 is served" || failed "it says $(from_host)"
restart() { exec_on a "$orchestra" up --data "$work/a" --node-name a --isolation full --listen 192.0.2.1:6443 --ingress 192.0.2.1:80 --node-grace 15 "$@" >"$work/a.out" 2>"$work/a.err"; }
(restart --pod-cidr 10.244.0.0/16) && failed "other ranges were taken" || { grep -q 'this data folder was made with --pod-cidr 10.244.0.0/16,fd00:10:244::/96' "$work/a.err" && pass "other ranges are refused" || failed "$(cat "$work/a.err")"; }
before=$(on a ip -6 route | grep -c fd00:)
: >"$work/a.out"
restart & pid[a]=$!
wait_for 30 grep -q '^ready in' "$work/a.out" || { tail "$work/a.err"; fail "orchestra up was not ready again"; }
again() { [ "$(on a ip -6 route | grep -c fd00:)" = "$before" ] && [ "$(answer_in "$(pod_on b)" "$(six_of "$(pod_on a)")" 8000)" = "I am a" ] && [[ $(from_host) == "I am "* ]]; }
wait_for 20 again && pass "the next start has the ranges of the first and the same routes" || failed "routes: $(on a ip -6 route)"
on a "$orchestra" down --data "$work/a" --timeout 20 >"$work/down.log" 2>&1 || failed "down: $(cat "$work/down.log")"
end_of "${pid[a]}" 2>/dev/null; pid[a]=
left=$(on a nft list tables | grep orc_; on a ip -6 route show table all | grep fd00:; on a ip -o link | grep orc)
[ -z "$left" ] && pass "orchestra down takes all of it off the machine" || failed "left: $left"
finish
