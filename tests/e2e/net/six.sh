#!/usr/bin/env bash
# Three machines whose pods and Services have addresses of IPv6 alone, though the machines know each other by IPv4: pods,
# probes, names, Services, the API from a pod, node ports, port-forward, a policy. Then one machine where IPv6 is the first of
# two families.
set -uo pipefail
cd "$(dirname "$0")/../../.."
source tests/e2e/net/lab.sh
start_lab --pod-cidr fd00:10:244::/96 --service-cidr fd00:10:96::/112
start_web  # its probes are by IPv6
wrong=
for h in a b c; do
  ips=$(kubectl get pod "$(pod_on $h)" -o 'jsonpath={.status.podIPs[*].ip}')
  [[ $ips =~ ^fd00:10:244::af4:[0-9a-f]+$ ]] && [ "$ips" = "$(ip_of "$(pod_on $h)")" ] || wrong="$wrong $h: $ips;"
done
[ -z "$wrong" ] && pass "each pod has one address, of IPv6" || failed "$wrong"
own=$(kubectl get nodes -o 'jsonpath={range .items[*]}{.spec.podCIDR} {.spec.podCIDRs}{"\n"}{end}' | sort -u | grep -c '^fd00:10:244::af4:[0-9a-f]*/120 \["fd00:10:244::af4:[0-9a-f]*/120"\]$')
[ "$own" = 3 ] && pass "each node has a range of IPv6 alone" || failed "$(kubectl get nodes -o 'jsonpath={.items[*].spec}')"
[ -z "$(on a ip route | grep 10.244; on a nft list tables | grep 'ip orc_')" ] && pass "nothing of IPv4 is made" || failed "$(on a ip route; on a nft list tables)"
unreached=
reaches() { said=$(answer_in "$(pod_on $1)" "$(ip_of "$(pod_on $2)")" 8000); [ "$said" = "I am $2" ]; }
for from in a b c; do for to in a b c; do wait_for 10 reaches $from $to || unreached="$unreached $from to $to: $said;"; done; done
[ -z "$unreached" ] && pass "every pod reaches every pod" || failed "$unreached"
[ "$(kubectl get service web -o 'jsonpath={.spec.ipFamilyPolicy} {.spec.ipFamilies[*]}')" = "SingleStack IPv6" ] && [[ $(kubectl get service web -o 'jsonpath={.spec.clusterIP}') == fd00:10:96::* ]] && pass "a Service that asks for nothing has IPv6" || failed "$(kubectl get service web -o yaml)"
[ "$(kubectl get endpointslices -l kubernetes.io/service-name=web -o 'jsonpath={.items[*].addressType}')" = IPv6 ] && pass "its endpoints are a slice of IPv6" || failed "$(kubectl get endpointslices -o yaml)"
[ "$(kubectl get service kubernetes -o 'jsonpath={.spec.clusterIP}')" = fd00:10:96::1 ] && pass "the Service kubernetes has the first address" || failed "$(kubectl get service kubernetes -o yaml)"
lookup() { in_pod "$(pod_on "$1")" "nslookup -type=$2 $3" 2>&1; }
for from in a b c; do
  in_pod "$(pod_on $from)" 'cat /etc/resolv.conf' | matches '^nameserver fd00:10:244::af4:' || failed "resolv.conf: $(in_pod "$(pod_on $from)" 'cat /etc/resolv.conf')"
  leads_to_all "$(pod_on $from)" web.default.svc.cluster.local 80 && pass "from $from the Service leads to all three, by its name" || failed "from $from: $seen"
done
headless() { for h in a b c; do lookup a AAAA webs.default.svc.cluster.local | matches "$(ip_of "$(pod_on $h)")" || return 1; done; }
wait_for 10 headless && pass "the headless name has each pod's address" || failed "$(lookup a AAAA webs.default.svc.cluster.local)"
reversed() { in_pod "$(pod_on a)" "nslookup $(kubectl get service web -o 'jsonpath={.spec.clusterIP}')" 2>&1 | matches 'name = web.default.svc.cluster.local'; }
wait_for 10 reversed && pass "and the virtual address has its name" || failed "$(in_pod "$(pod_on a)" "nslookup $(kubectl get service web -o 'jsonpath={.spec.clusterIP}')" 2>&1)"
for from in a b; do
  api() { in_pod "$(pod_on $from)" 'nc -w 3 "$KUBERNETES_SERVICE_HOST" "$KUBERNETES_SERVICE_PORT" </dev/null'; }
  wait_for 5 api && pass "from $from a pod reaches the API at the address of its environment" || failed "from $from: $(kubectl get endpointslices kubernetes -o yaml)"
done
kubectl patch service web --type merge -p '{"spec":{"type":"NodePort","ports":[{"name":"http","port":80,"targetPort":8000,"nodePort":30080}]}}' >/dev/null || failed "patch"
on b ip -6 addr add 2001:db8::b/64 dev eth0 nodad; ip -6 addr add 2001:db8::100/64 dev switch nodad
node_port() { [[ $(curl -s --max-time 3 'http://[2001:db8::b]:30080/') == "I am "* ]]; }
wait_for 10 node_port && pass "from outside a node's port leads to a pod" || failed "it says $(curl -sv --max-time 3 'http://[2001:db8::b]:30080/' 2>&1)"
kubectl port-forward "$(pod_on b)" :8000 >"$work/forward" 2>&1 & forward=$!
forwarded() { [ "$(curl -s --max-time 3 "http://$(sed -n 's/^Forwarding from \(127[^ ]*\) .*/\1/p' "$work/forward")/")" = "I am b" ]; }
wait_for 10 forwarded && pass "port-forward reaches a pod of another machine" || failed "$(cat "$work/forward")"
kill $forward; wait $forward 2>/dev/null
[ "$(kubectl get --raw "/api/v1/namespaces/default/pods/$(pod_on b):8000/proxy/")" = "I am b" ] && pass "and so does the API's proxy" || failed "$(kubectl get --raw "/api/v1/namespaces/default/pods/$(pod_on b):8000/proxy/" 2>&1)"
kubectl apply -f - >/dev/null <<'YAML' || fail "apply"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: none-to-web}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
YAML
to=$(ip_of "$(pod_on b)")
denied() { [ -z "$(answer_in "$(pod_on a)" "$to" 8000)" ]; }
wait_for 20 denied && pass "a policy denies" || failed "still reached"
kubectl delete networkpolicy none-to-web >/dev/null
wait_for 20 reaches a b && pass "and gone it opens" || failed "still denied"
kill -9 "${pid[a]}"; wait "${pid[a]}" 2>/dev/null; pid[a]=
restart() { exec_on a "$orchestra" up --data "$1" --node-name a --isolation full --listen 192.0.2.1:6443 --ingress 192.0.2.1:80 --node-grace 15 "${@:2}" >"$work/a.out" 2>"$work/a.err"; }
(restart "$work/a" --pod-cidr fd00:10:244::/96,10.244.0.0/16 --service-cidr fd00:10:96::/112) && failed "other ranges were taken" || { grep -q 'this data folder was made with --pod-cidr fd00:10:244::/96' "$work/a.err" && pass "other ranges are refused" || failed "$(cat "$work/a.err")"; }
: >"$work/a.out"
restart "$work/a" & pid[a]=$!
wait_for 30 grep -q '^ready in' "$work/a.out" || { tail "$work/a.err"; fail "orchestra up was not ready again"; }
wait_for 20 reaches b a && pass "the next start has the ranges of the first" || failed "$(tail "$work/a.err")"
for h in c b a; do
  on $h "$orchestra" down --data "$work/$h" --timeout 20 >"$work/down.log" 2>&1 || failed "down: $(cat "$work/down.log")"
  end_of "${pid[$h]}" 2>/dev/null; pid[$h]=
done
left=$(on a nft list tables | grep orc_; on a ip -6 route show table all | grep fd00:; on a ip -o link | grep orc)
[ -z "$left" ] && pass "orchestra down takes all of it off the machine" || failed "left: $left"

# IPv6 as the first of two families, on one machine.
rm -rf "$work/a"
: >"$work/a.out"
restart "$work/a" --pod-cidr fd00:10:244::/96,10.244.0.0/16 --service-cidr fd00:10:96::/112,10.96.0.0/16 & pid[a]=$!
wait_for 30 grep -q '^ready in' "$work/a.out" || { tail "$work/a.err"; fail "orchestra up was not ready with IPv6 first"; }
start_web
first=$(pod_on a)
[[ $(kubectl get pod "$first" -o 'jsonpath={.status.podIP} {.status.podIPs[*].ip}') =~ ^(fd00:10:244::af4:[0-9a-f]+)\ (fd00:10:244::af4:[0-9a-f]+)\ 10\.244\.[0-9.]+$ ]] && pass "IPv6 is the first of a pod's two addresses" || failed "$(kubectl get pod "$first" -o 'jsonpath={.status}')"
[[ $(kubectl get node a -o 'jsonpath={.spec.podCIDRs}') =~ ^\[\"fd00:10:244::af4:[0-9a-f]+/120\",\"10\.244\.[0-9]+\.0/24\"\]$ ]] && pass "and of its node's two ranges" || failed "$(kubectl get node a -o 'jsonpath={.spec}')"
kubectl apply -f - >/dev/null <<'YAML' || fail "apply"
apiVersion: v1
kind: Service
metadata: {name: both}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8000}]}
YAML
[ "$(kubectl get service both -o 'jsonpath={.spec.ipFamilies[*]}')" = "IPv6 IPv4" ] && pass "and of a Service's" || failed "$(kubectl get service both -o yaml)"
both() { for address in $(kubectl get service both -o 'jsonpath={.spec.clusterIPs[*]}'); do [ "$(answer_in "$first" "$address" 80)" = "I am a" ] || return 1; done; [ "$(answer_in "$first" both.default.svc.cluster.local 80)" = "I am a" ]; }
wait_for 10 both && pass "which leads to its pods by both, and by its name" || failed "$(kubectl get service both -o yaml)"
finish
