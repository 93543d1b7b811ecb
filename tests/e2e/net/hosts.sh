#!/usr/bin/env bash
# Three machines: pods reach pods, a Service and names across them, counted at the switch; a machine dies, and its
# endpoints leave the Service and the names within the grace of nodes and 10 s.
set -uo pipefail
cd "$(dirname "$0")/../../.."
source tests/e2e/net/lab.sh
start_lab
start_web
pass "three machines with a pod each"
unreached=
for from in a b c; do
  for to in a b c; do
    before_from=$(from_port $from) before_to=$(to_port $to)
    said=$(answer_in "$(pod_on $from)" "$(ip_of "$(pod_on $to)")" 8000)
    [ "$said" = "I am $to" ] || unreached="$unreached $from to $to: $said;"
    # A connection is at least five packets each way; on one machine none needs the cable, but exec does.
    [ $from = $to ] || { [ $(( $(from_port $from) - before_from )) -ge 5 ] && [ $(( $(to_port $to) - before_to )) -ge 5 ]; } || unreached="$unreached $from to $to: not over the switch;"
  done
done
[ -z "$unreached" ] && pass "every pod reaches every pod, over the switch" || failed "$unreached"
for from in a b c; do
  pod=$(pod_on $from)
  seen=$(who_answers "$pod" web.default.svc.cluster.local 80)
  [ "$seen" = "I am a I am b I am c " ] && pass "from $from the Service leads to all three, by its name" || failed "from $from: $seen"
  names=$(in_pod "$pod" 'nslookup webs.default.svc.cluster.local' 2>/dev/null | grep -c '10\.244\.')
  [ "$names" -ge 3 ] && pass "from $from the headless name has three addresses" || failed "from $from: $names addresses: $(in_pod "$pod" 'nslookup webs.default.svc.cluster.local' 2>&1)"
done
lost=$(ip_of "$(pod_on b)")
ip link set to-b down; kill -9 "${pid[b]}"; pid[b]=
begin=$(date +%s)
from=$(pod_on a)
name_left() { ! in_pod "$from" 'nslookup webs.default.svc.cluster.local' 2>/dev/null | grep -q "$lost"; }
wait_for 40 name_left; took=$(( $(date +%s) - begin ))
name_left && [ $took -le 30 ] && pass "a dead machine's endpoint leaves the name after $took s (grace of nodes: 15 s)" || failed "still there after $took s"
bad=$(for i in $(seq 20); do answer_in "$from" web.default.svc.cluster.local 80; done | grep -c 'I am b\|^$')
[ "$bad" = 0 ] && pass "and the Service leads to the living only" || failed "$bad of 20 connections went astray"
finish
