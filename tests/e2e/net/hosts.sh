#!/usr/bin/env bash
# Three machines: pods reach pods, a Service and names across them, counted at the switch; a machine dies, and its
# endpoints leave the Service and the names within the grace of nodes and 10 s.
set -uo pipefail
cd "$(dirname "$0")/../../.."
source tests/e2e/net/lab.sh
start_lab
start_web
pass "three machines with a pod each"
reaches() {
  before_from=$(from_port $1) before_to=$(to_port $2)
  said=$(answer_in "$(pod_on $1)" "$(ip_of "$(pod_on $2)")" 8000)
  [ "$said" = "I am $2" ]
}
unreached=
for from in a b c; do
  for to in a b c; do
    wait_for 10 reaches $from $to || unreached="$unreached $from to $to: $said;"
    # A connection is at least five packets each way; on one machine none needs the cable, but exec does.
    [ $from = $to ] || { [ $(( $(from_port $from) - before_from )) -ge 5 ] && [ $(( $(to_port $to) - before_to )) -ge 5 ]; } || unreached="$unreached $from to $to: not over the switch;"
  done
done
[ -z "$unreached" ] && pass "every pod reaches every pod, over the switch" || failed "$unreached"
for from in a b c; do
  pod=$(pod_on $from)
  leads_to_all "$pod" web.default.svc.cluster.local 80 && pass "from $from the Service leads to all three, by its name" || failed "from $from: $seen"
  named() { [ "$(addresses_in "$pod" webs | sort -u | wc -l)" = 3 ]; }
  wait_for 10 named && pass "from $from the headless name has three addresses" || failed "from $from: $(in_pod "$pod" 'nslookup webs.default.svc.cluster.local' 2>&1)"
done
measured() { kubectl get --raw /metrics >"$work/metrics" && for one in orchestra_net_sync_seconds_count orchestra_podnet_attach_seconds_count orchestra_dns_request_duration_seconds_count orchestra_net_conntrack_used_ratio; do grep -qE "^$one [0-9.e-]*[1-9]" "$work/metrics" || return 1; done; }
wait_for 20 measured && pass "what took time in the network is on the page of metrics" || failed "$(grep -E '^orchestra_(net|podnet|dns)' "$work/metrics")"
lost=$(ip_of "$(pod_on b)")
# By the pod's name, which no script that runs beside this one has, too.
name=$(pod_on b)
inside=$(for one in $(pgrep -x httpd); do grep -qzx "HOSTNAME=$name" "/proc/$one/environ" 2>/dev/null && echo "$one"; done | head -n 1)
kill -9 "${pid[b]}"; wait "${pid[b]}" 2>/dev/null; pid[b]=
begin=$(date +%s)
still_named() { [ "$(nsenter -t "$inside" -m -n /bin/sh -c 'nslookup webs.default.svc.cluster.local' 2>/dev/null | grep -c '^Address: 10\.244\.')" = 3 ]; }
[ "$(nsenter -t "$inside" -m -n /bin/sh -c 'grep -c ^nameserver /etc/resolv.conf')" = 2 ] && wait_for 10 still_named && pass "while the program of its node is not there, a pod has names from the next node" || failed "names of pod $inside without its node's program: $(nsenter -t "$inside" -m -n /bin/sh -c 'cat /etc/resolv.conf; nslookup webs.default.svc.cluster.local' 2>&1)"
ip link set to-b down
from=$(pod_on a)
name_left() { local named; named=$(addresses_in "$from" webs) && ! grep -qxF "$lost" <<<"$named"; }
wait_for 40 name_left; took=$(( $(date +%s) - begin ))
name_left && [ $took -le 30 ] && pass "a dead machine's endpoint leaves the name after $took s (grace of nodes: 15 s)" || failed "still there after $took s"
# Names and rules are told at the same time, and followed each in its own.
living_only() { seen=$(answers_in 40 "$from" web.default.svc.cluster.local 80 | sort -u | paste -sd' '); [ "$seen" = "I am a I am c" ]; }
wait_for 30 living_only && pass "and the Service leads to the living only" || failed "of 40 connections some went astray: $seen"
finish
