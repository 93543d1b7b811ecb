#!/usr/bin/env bash
# Jobs of 200 indexes whose pods fail by every rule there is, while the program is killed with -9 four times: each
# index is run exactly as often as its rule says, and the Job counts exactly. Then one that a pod failure policy ends.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
one_cluster
up() { start --node-name n1 --isolation full --listen 127.0.0.1:6443 --ingress 127.0.0.1:8080; }
murder() { kill -9 "$owner"; wait "$owner" 2>/dev/null; up; }
field() { kubectl get job "$1" -o "jsonpath=$2" 2>/dev/null; }
image=quickstart/web:1
up
mkdir -p "$work/runs" && chmod 777 "$work/runs"

# By the last digit of the index: 3 fails once (counted, tried again); 5 once in a way that is ignored; 7 at once for
# good; 9 of an odd ten (19, 39, ..) always, so it fails for good with the second try. Each try leaves a line.
kubectl apply -f - >/dev/null <<YAML || fail "kubectl apply of the Job"
apiVersion: batch/v1
kind: Job
metadata: {name: sum}
spec:
  completions: 200
  parallelism: 25
  completionMode: Indexed
  backoffLimitPerIndex: 1
  maxFailedIndexes: 100
  podFailurePolicy:
    rules:
    - {action: FailIndex, onExitCodes: {operator: In, values: [42]}}
    - {action: Ignore, onExitCodes: {containerName: main, operator: In, values: [43, 44]}}
  template:
    metadata: {labels: {sum: one}}
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      volumes: [{name: runs, hostPath: {path: $work/runs}}]
      containers:
      - name: main
        image: $image
        volumeMounts: [{name: runs, mountPath: /runs}]
        command:
        - /bin/sh
        - -c
        - |
          i=\$JOB_COMPLETION_INDEX
          echo \$HOSTNAME >> /runs/\$i
          tries=\$(wc -l < /runs/\$i)
          case \$((i % 20)) in
            3|13) [ \$tries -gt 1 ] || exit 1 ;;
            5|15) [ \$tries -gt 1 ] || exit 43 ;;
            7|17) exit 42 ;;
            19) exit 1 ;;
          esac
YAML
# What is right, by the same rules.
failing=$(seq 0 199 | awk '$1 % 10 == 7 || $1 % 20 == 19'); good=$(seq 0 199 | grep -vxFf <(echo "$failing"))
list() { awk 'function out() { if (first != "") printf "%s%s", (n++ ? "," : ""), first == last ? first : first "-" last } $1 != last + 1 || first == "" { out(); first = $1 } { last = $1 } END { out() }'; }
tries_of() { seq 0 199 | awk '{ d = $1 % 10; print $1, d == 3 || d == 5 || $1 % 20 == 19 ? 2 : 1 }'; }

# Pods that failed otherwise than by their program: which, and why.
strange() {
  kubectl get pods -l sum=one --field-selector=status.phase=Failed -o 'jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].state.terminated.exitCode}{"\n"}{end}' |
    awk '$2 != 1 && $2 != 42 && $2 != 43 {print $1}' | while read -r pod; do echo "strange: $pod: $(kubectl get pod "$pod" -o 'jsonpath={.status}')"; done
}

ended() { local n; n=$(field sum '{.status.succeeded}'); [ "${n:-0}" -ge "$1" ]; }
for at in 20 60 100 140; do
  wait_for 60 ended $at || failed "only $(field sum '{.status.succeeded}') of $at have succeeded in 60 s"
  murder
done
kubectl wait --for=condition=failed job/sum --timeout=300s >/dev/null && pass "a Job of 200 indexes ends, the program killed four times meanwhile" || { kubectl get pods -l sum=one | head -n 20; fail "the Job has not ended: $(field sum '{.status}')"; }
[ "$(field sum '{.status.conditions[?(@.type=="Failed")].reason}')" = FailedIndexes ] && pass "it failed for its failed indexes" || failed "conditions: $(field sum '{.status.conditions}')"
[ "$(field sum '{.status.succeeded} {.status.failed} {.status.active}')" = "170 60 " ] && pass "170 pods succeeded, 60 failed, the ignored ones are not counted" || { failed "counts: $(field sum '{.status}')"; strange; }
[ "$(field sum '{.status.completedIndexes}')" = "$(list <<<"$good")" ] && pass "each index that could is completed" || failed "completed: $(field sum '{.status.completedIndexes}') instead of $(list <<<"$good")"
[ "$(field sum '{.status.failedIndexes}')" = "$(list <<<"$failing")" ] && pass "and the 30 others are the failed ones" || failed "failed: $(field sum '{.status.failedIndexes}') instead of $(list <<<"$failing")"
runs=$(cd "$work/runs" && for i in $(seq 0 199); do echo "$i $(wc -l 2>/dev/null <"$i" || echo 0)"; done)
[ "$runs" = "$(tries_of)" ] && pass "every index ran exactly as often as its rule says: 250 programs, none lost, none twice" || failed "runs: $(diff <(echo "$runs") <(tries_of) | head -n 10)"
[ -z "$(field sum '{.status.uncountedTerminatedPods.succeeded}{.status.uncountedTerminatedPods.failed}')" ] && ! kubectl get pods -l sum=one -o 'jsonpath={.items[*].metadata.finalizers}' | matches job-tracking && pass "no pod waits to be counted" || failed "uncounted: $(field sum '{.status.uncountedTerminatedPods}')"
[ "$(kubectl get pods -l sum=one --no-headers | wc -l)" = 250 ] && pass "every pod that ran is still there to be looked at" || failed "$(kubectl get pods -l sum=one --no-headers | wc -l) pods"
kubectl delete job sum --timeout=120s >/dev/null
gone() { [ -z "$(kubectl get pods -l sum=one -o name)" ] && [ -z "$(ls "$data/pods" "$data/pods-log" | grep -v :)" ]; }
wait_for 30 gone && pass "the Job's pods go with it" || failed "left: $(kubectl get pods -l sum=one --no-headers | wc -l) pods, $(ls "$data/pods" | wc -l) folders, $(ls "$data/pods-log" | wc -l) of logs"

# One exit code ends the whole Job: what runs is stopped, nothing more starts.
kubectl apply -f - >/dev/null <<YAML || fail "kubectl apply of the second Job"
apiVersion: batch/v1
kind: Job
metadata: {name: fuse}
spec:
  completions: 200
  parallelism: 10
  completionMode: Indexed
  backoffLimit: 5
  podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [99]}}]}
  template:
    metadata: {labels: {fuse: one}}
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      volumes: [{name: runs, hostPath: {path: $work/runs}}]
      containers:
      - name: main
        image: $image
        volumeMounts: [{name: runs, mountPath: /runs}]
        command: [/bin/sh, -c, '[ \$JOB_COMPLETION_INDEX -ge 5 ] || exit 0; while [ \$JOB_COMPLETION_INDEX != 12 ] || ! [ -e /runs/go ]; do usleep 20000; done; exit 99']
YAML
# What has not been counted when the Job fails is stopped and fails: the fifth success comes first.
five() { [ "$(field fuse '{.status.succeeded}')" = 5 ]; }
wait_for 60 five || failed "five of fuse did not succeed: $(field fuse '{.status}')"
touch "$work/runs/go"
kubectl wait --for=condition=failed job/fuse --timeout=180s >/dev/null && [ "$(field fuse '{.status.conditions[?(@.type=="Failed")].reason} {.status.active}')" = "PodFailurePolicy " ] && grep -q 'exit code 99 matching FailJob rule at index 0' <<<"$(field fuse '{.status.conditions[?(@.type=="Failed")].message}')" && pass "FailJob ends a Job, with the pod and the rule in its words" || failed "fuse: $(field fuse '{.status}')"
[ "$(field fuse '{.status.succeeded}')" = 5 ] && [ "$(kubectl get pods -l fuse=one --field-selector=status.phase=Running -o name | wc -l)" = 0 ] && ! pgrep -f 'JOB_COMPLETION_INDEX != 12' >/dev/null && pass "what had succeeded counts, what ran is stopped" || failed "fuse: $(field fuse '{.status}'), $(kubectl get pods -l fuse=one --no-headers | awk '{print $3}' | sort | uniq -c | paste -sd,)"
kill "$owner"; end_of "$owner"; owner=
"$orchestra" down --data "$data" >/dev/null 2>&1
finish
