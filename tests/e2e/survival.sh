#!/usr/bin/env bash
# kill -9 of the program while pods run, at several moments; the next start adopts them: same container ids and
# start times, restart counts unchanged, logs complete. Bad starts say why. `orchestra down` leaves nothing.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
one_cluster
state() { kubectl get pods -n shop -o 'jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.running.startedAt}{"\n"}{end}' | sort; }
# Those of this cluster's pods: their roots lie in its folder.
pids() { ps -eo pid=,ppid=,lstart=,args= | own_programs ' (httpd -f|redis-server)' | awk '{print $1, $5}' | while read -r p began; do grep -q " $data/\|=$data/\|:$data/" "/proc/$p/mountinfo" 2>/dev/null && echo "$p $began"; done | sort; }

start
kubectl apply -f examples/quickstart/ >/dev/null || fail "kubectl apply"
kubectl rollout status -n shop deployment/web --timeout=180s >/dev/null && kubectl rollout status -n shop deployment/redis --timeout=180s >/dev/null || fail "the shop did not become ready"
kubectl run -n shop counter --image=quickstart/web:1 --restart=Never --command -- /bin/sh -c 'i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done' >/dev/null
wait_for 20 bash -c '[ "$(kubectl get pod -n shop counter -o "jsonpath={.status.phase}")" = Running ]' || fail "the counter did not start"
before=$(state); processes=$(pids)
[ "$(wc -l <<<"$processes")" = 3 ] || fail "processes of the pods: $processes"

refused=$("$orchestra" up --data "$data" --listen 127.0.0.1:0 2>&1); status=$?
[ $status = 4 ] && grep -q "process $owner" <<<"$refused" && pass "a second process on the folder is refused and told the pid" || failed "second process: status $status: $refused"

for round in 1 2 3; do
  kill -9 "$owner"; wait "$owner" 2>/dev/null
  [ "$(pids)" = "$processes" ] || fail "round $round: processes changed when the program was killed"
  start
  wait_for 20 bash -c 'kubectl get --raw /readyz' || fail "round $round: not ready"
  [ "$(pids)" = "$processes" ] || { diff <(echo "$processes") <(pids); fail "round $round: the next start did not keep the processes"; }
done
after=$(state)
[ "$before" = "$after" ] && pass "kill -9 three times: same containers, same start times, no restarts" || { diff <(echo "$before") <(echo "$after"); failed "states differ after kill -9"; }
wait_for 30 bash -c '[ "$(kubectl logs -n shop counter | wc -l)" -gt 100 ]' || fail "the counter does not count on"
kubectl logs -n shop counter >"$work/lines" 2>"$work/logs.err" || cat "$work/logs.err"
awk '$2 != NR {bad = 1} END {exit bad}' "$work/lines" && [ "$(wc -l <"$work/lines")" -gt 50 ] && pass "$(wc -l <"$work/lines") log lines, none lost or doubled" || { failed "log lines are not 1, 2, 3, .. ($(wc -l <"$work/lines") lines)"; head -n 3 "$work/lines"; tail -n 3 "$work/lines"; kubectl get pods -n shop; }
serves() { bash -c "exec 5<>/dev/tcp/${1%:*}/${1##*:} && printf 'GET /cgi-bin/visit HTTP/1.0\r\nHost: shop.example\r\n\r\n' >&5 && timeout 10 grep -q 'visits=' <&5"; }
ingress_of() { grep -o 'ingress http://[^ ]*' "$1" | sed 's/.*http:..//'; }
address=$(ingress_of "$work/up.out")
wait_for 10 serves "$address" && pass "the ingress serves after the restart" || failed "the ingress does not serve after the restart"

# orchestra logs: one pod, a workload with several, what a running and a stopped cluster say.
read_lines() { "$orchestra" logs "$@" 2>"$work/logs.err"; }
read_lines counter -n shop --data "$data" >"$work/all"
[ "$(read_lines counter -n shop --data "$data" --tail 5 | wc -l)" = 5 ] && [ -z "$(read_lines counter -n shop --until 1h)" ] && awk '$1 != "line" || $2 != NR {bad = 1} END {exit bad || NR < 100}' "$work/all" && pass "orchestra logs: a pod, its tail" || failed "orchestra logs: $(cat "$work/logs.err")"
read_lines deployment/redis -n shop --timestamps >"$work/merged" && read_lines -l app=redis -n shop --timestamps >"$work/labelled" && [ -s "$work/merged" ] && cmp -s "$work/merged" "$work/labelled" && pass "orchestra logs: a Deployment and its labels say the same" || failed "orchestra logs of a Deployment: $(cat "$work/logs.err"; wc -l "$work/merged" "$work/labelled")"
read_lines counter -n shop --json --tail 1 | matches '^{"time":"20.*","namespace":"shop","pod":"counter","container":"counter","line":"line [0-9]*"}$' && pass "orchestra logs --json" || failed "orchestra logs --json: $(cat "$work/logs.err")"
two=$(timeout 60 "$orchestra" logs counter -n shop -f --tail 1 2>"$work/logs.err" | head -n 2 | sed 's/line //' | paste -sd-)
[ "$((two))" = -1 ] && pass "orchestra logs -f goes on" || failed "orchestra logs -f: $two $(cat "$work/logs.err")"
read_lines nobody -n shop; [ $? = 3 ] && grep -q 'nobody' "$work/logs.err" && read_lines counter --tail x; [ $? = 2 ] && grep -q -- '--tail x' "$work/logs.err" && read_lines thing/x -n shop; [ $? = 2 ] && grep -q '"thing" is none of' "$work/logs.err" && pass "orchestra logs: wrong pod, number and kind are told" || failed "orchestra logs, bad input: $(cat "$work/logs.err")"

# A second cluster beside it, with the same shop: ranges, ports and names of its own; its end takes nothing of the first.
: >"$work/second.out"
"$orchestra" up --data "$work/second" --listen 127.0.0.1:0 --ingress 127.0.0.1:0 >"$work/second.out" 2>&1 & second=$!
cleanups+=('[ -n "$second" ] && kill -9 "$second" 2>/dev/null && "$orchestra" down --data "$work/second" >/dev/null 2>&1')
wait_for 20 grep -q '^ready in' "$work/second.out" || { cat "$work/second.out"; fail "the second cluster was not ready"; }
there() { kubectl --kubeconfig "$work/second/admin.kubeconfig" "$@"; }
there apply -f examples/quickstart/ >/dev/null && there rollout status -n shop deployment/web --timeout=180s >/dev/null || fail "the second cluster's shop did not become ready"
wait_for 10 serves "$(ingress_of "$work/second.out")" && serves "$address" && pass "two clusters on one machine serve the same shop: $(grep -h 'is in use on this machine' "$work/second.out" | paste -sd';')" || failed "two clusters: $(cat "$work/second.out")"
"$orchestra" down --data "$work/second" >"$work/down.log" 2>&1 && wait "$second"; second=
serves "$address" && [ "$(pids)" = "$processes" ] && pass "the end of the second takes nothing of the first" || failed "after the end of the second: $(cat "$work/down.log"; pids)"

kill "$owner"; end_of "$owner" && pass "SIGTERM ends it with status 0" || failed "SIGTERM: status $?"
[ "$(pids)" = "$processes" ] && pass "pods run on after SIGTERM" || failed "pods did not run on"
owner=
stopped=$(read_lines counter -n shop --data "$data" | tee "$work/stopped" | wc -l)
[ "$stopped" -ge "$(wc -l <"$work/lines")" ] && awk '$2 != NR {bad = 1} END {exit bad}' "$work/stopped" && pass "orchestra logs reads the folder of a stopped cluster" || failed "orchestra logs of a stopped cluster: $(cat "$work/logs.err")"
"$orchestra" down --data "$data" >"$work/down.log" 2>&1 && pass "orchestra down on a stopped folder" || { cat "$work/down.log"; failed "orchestra down"; }
[ -z "$(pids)" ] && pass "no process of a pod is left" || failed "processes left: $(pids)"
[ "$(ip -br link | grep -c orc)" = 0 ] && [ -z "$(nft list tables 2>/dev/null | grep orc)" ] && pass "no link and no table is left" || failed "left: $(ip -br link | grep orc; nft list tables | grep orc)"
instance=$(cat "$data/instance")
[ -z "$(find /sys/fs/cgroup -maxdepth 3 -name "orchestra-$instance" 2>/dev/null)" ] && [ ! -e "/run/orchestra/$instance" ] && ! grep -q "$data" /proc/self/mountinfo && pass "no cgroup, mount or folder in /run is left" || failed "left: $(find /sys/fs/cgroup -maxdepth 3 -name "orchestra-$instance"; ls /run/orchestra)"

# Things done wrong on purpose.
: >"$work/other.out"
"$orchestra" up --data "$work/other" --listen 127.0.0.1:0 --ingress 127.0.0.1:0 >"$work/other.out" 2>/dev/null & other=$!
cleanups+=('[ -n "$other" ] && kill -9 "$other" 2>/dev/null && "$orchestra" down --data "$work/other" >/dev/null 2>&1')
wait_for 20 grep -q '^ready in' "$work/other.out" || fail "the cluster beside was not ready"
out=$("$orchestra" up --data "$work/x" --isolation strong 2>&1); [ $? != 0 ] && grep -q 'best, full, rootless, process' <<<"$out" && pass "an unknown isolation level is refused with the choices" || failed "isolation: $out"
out=$("$orchestra" up --nonsense 2>&1); [ $? = 2 ] && grep -q 'unknown flag --nonsense' <<<"$out" && pass "an unknown flag is a usage error" || failed "flag: $out"
taken=$(sed -n 's/.*ingress http:..\([^ ]*\).*/\1/p' "$work/other.out")
out=$("$orchestra" up --data "$work/failed" --listen 127.0.0.1:0 --ingress "$taken" 2>&1); status=$?
instance=$(cat "$work/failed/instance")
[ $status = 4 ] && grep -q "$taken is already in use by process $other" <<<"$out" && pass "a taken ingress port is refused and told the holder" || failed "ingress port: status $status: $out"
out=$("$orchestra" up --data "$work/early" --listen "$taken" 2>&1); status=$?
early=$(cat "$work/early/instance")
[ $status = 4 ] && [ "$(ip -br link | grep -c "orc-$instance\|orc-$early")" = 0 ] && ! nft list tables 2>/dev/null | matches "$instance\|$early" && [ ! -e "/run/orchestra/$instance" ] && [ ! -e "/run/orchestra/$early" ] && pass "a start that failed leaves nothing on the machine" || failed "left of a failed start: $(ip -br link; nft list tables; ls /run/orchestra)"
kill "$other"; end_of "$other"; "$orchestra" down --data "$work/other" >/dev/null 2>&1; other=
# An owner that hears that it is to end, and is killed before it has.
: >"$work/other.out"
"$orchestra" up --data "$work/other" --listen 127.0.0.1:0 --ingress 127.0.0.1:0 >"$work/other.out" 2>/dev/null & other=$!
wait_for 20 grep -q '^ready in' "$work/other.out" || fail "the cluster beside was not ready"
kill -STOP "$other"
"$orchestra" down --data "$work/other" >"$work/down.log" 2>&1 & asking=$!
asked() { [ "$(grep -c "$work/other/control.sock" /proc/net/unix)" -ge 2 ]; }
wait_for 10 asked || failed "down does not ask the owner"
kill -9 "$other"; wait "$other" 2>/dev/null; other=
end_of "$asking" && pass "down goes on by itself when the owner is killed while it is asked" || failed "down: $(cat "$work/down.log")"
out=$("$orchestra" down --data "$work/nowhere" 2>&1); [ $? = 3 ] && grep -q "$work/nowhere" <<<"$out" && pass "down on a missing folder says so" || failed "down: $out"
finish
