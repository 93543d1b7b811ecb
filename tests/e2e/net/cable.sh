#!/usr/bin/env bash
# The cable of a machine is pulled for a minute and plugged in again: its pod runs on untouched, its endpoint goes and
# comes back, and nothing stays wrong.
# beside: job
set -uo pipefail
cd "$(dirname "$0")/../../.."
source tests/e2e/net/lab.sh
start_lab
start_web
from=$(pod_on a) on_b=$(pod_on b)
address_b=$(ip_of "$on_b")
counts() { kubectl get pod "$on_b" -o 'jsonpath={.metadata.uid} {.status.containerStatuses[0].restartCount} {.status.podIP}'; }
before=$(counts)
ip link set to-b down
cut_at=$(date +%s)
gone() { local named; named=$(addresses_in "$from" webs) && ! grep -qxF "$address_b" <<<"$named"; }
wait_for 45 gone && pass "the endpoint behind the cut cable leaves after $(( $(date +%s) - cut_at )) s" || failed "it is still named"
while [ $(( $(date +%s) - cut_at )) -lt 60 ]; do read -rt 1 <> <(:) || true; done
ip link set to-b up
back_at=$(date +%s)
back() { addresses_in "$from" webs | matches -xF "$address_b"; }
wait_for 60 back && pass "it is back $(( $(date +%s) - back_at )) s after the cable" || failed "it does not come back: $(kubectl get nodes,pods -o wide 2>&1)"
[ "$(counts)" = "$before" ] && pass "the same pod, never restarted" || failed "before: $before, now: $(counts)"
reached() { for f in a b c; do for t in a b c; do [ "$(answer_in "$(pod_on $f)" "$(ip_of "$(pod_on $t)")" 8000)" = "I am $t" ] || return 1; done; done; }
wait_for 30 reached && pass "every pod reaches every pod again" || failed "not all reach all"
leads_to_all "$from" web.default.svc.cluster.local 80 && pass "the Service leads to all three again" || failed "Service: $seen"
finish
