#!/usr/bin/env bash
# What people do with kubectl, on one real node: a StatefulSet with claims whose data outlives its pods, a Job of 200
# indexes with random failures that counts exactly, a CronJob, a DaemonSet, a budget that holds a drain back, rollout
# and undo, cordon, debug, attach, cp, top, and a restart when the configuration changes.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
one_cluster
start --node-name n1 --listen 127.0.0.1:0 --ingress 127.0.0.1:0
image=quickstart/web:1
get() { kubectl get "$@" 2>/dev/null; }
field() { kubectl get "$1" -o "jsonpath=$2" 2>/dev/null; }
until_is() { local want=$1; shift; wait_for 60 bash -c '[ "$(kubectl get "$1" -o "jsonpath=$2" 2>/dev/null)" = "$3" ]' _ "$1" "$2" "$want"; }

kubectl apply -f - >/dev/null <<YAML || fail "kubectl apply of the StatefulSet"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: $image
        command: [/bin/sh, -c, 'echo \$HOSTNAME >> /data/starts; while :; do sleep 1; done']
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
YAML
kubectl rollout status statefulset/db --timeout=180s >/dev/null && pass "a StatefulSet with claims of the default class is ready" || { kubectl get pods,pvc,pv; kubectl get events; fail "the StatefulSet is not ready"; }
kubectl delete pod db-0 >/dev/null
# The set's status is that of before for a moment, and a program that runs has not yet written its line.
data_kept() { [ "$(kubectl exec db-0 -- cat /data/starts | sort | uniq -c | tr -s ' ')" = " 2 db-0" ]; }
wait_for 60 data_kept && kubectl rollout status statefulset/db --timeout=180s >/dev/null && pass "a pod made anew has its name and its data" || failed "data: $(kubectl exec db-0 -- cat /data/starts)"
kubectl scale statefulset/db --replicas=1 >/dev/null && wait_for 30 bash -c '! kubectl get pod db-1' && [ "$(get pvc --no-headers | wc -l)" = 2 ] && pass "scaled down, the claims stay" || failed "scale: $(get pods,pvc)"
kubectl patch statefulset db --type=merge -p '{"spec":{"template":{"metadata":{"annotations":{"v":"2"}}}}}' >/dev/null
kubectl rollout status statefulset/db --timeout=180s >/dev/null && [ "$(kubectl rollout history statefulset/db | grep -c '^[0-9]')" = 2 ] && kubectl rollout undo statefulset/db >/dev/null && kubectl rollout status statefulset/db --timeout=180s >/dev/null && [ -z "$(field pod/db-0 '{.metadata.annotations.v}')" ] && pass "a StatefulSet rolls, keeps its history and is undone" || failed "StatefulSet rollout: $(kubectl rollout history statefulset/db)"
kubectl delete statefulset db >/dev/null; kubectl delete pvc --all --timeout=120s >/dev/null
volumes_gone() { [ -z "$(kubectl get pv -o name)" ] && [ -z "$(ls "$data/volumes" 2>/dev/null)" ]; }
wait_for 30 volumes_gone && pass "claims deleted: volumes and folders are gone" || failed "left: $(get pv; ls "$data/volumes")"

# Every third index fails until its second try, seen by a file on the node.
indexes=20; [ -n "${ORCHESTRA_LONG:-}" ] && indexes=200
mkdir -p "$work/tries" && chmod 777 "$work/tries"
kubectl apply -f - >/dev/null <<YAML || fail "kubectl apply of the Job"
apiVersion: batch/v1
kind: Job
metadata: {name: sum}
spec:
  completions: $indexes
  parallelism: 10
  completionMode: Indexed
  backoffLimitPerIndex: 1000
  backoffLimit: 100000
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      volumes: [{name: tries, hostPath: {path: $work/tries}}]
      containers:
      - name: main
        image: $image
        volumeMounts: [{name: tries, mountPath: /tries}]
        command: [/bin/sh, -c, '[ \$((JOB_COMPLETION_INDEX % 10)) != 3 ] || [ -e /tries/\$JOB_COMPLETION_INDEX ] || { echo > /tries/\$JOB_COMPLETION_INDEX; exit 1; }']
YAML
# Beside it one that fails beyond its limit: both wait for their back-off.
kubectl apply -f - >/dev/null <<YAML || fail "kubectl apply of the failing Job"
apiVersion: batch/v1
kind: Job
metadata: {name: fails}
spec:
  backoffLimit: 1
  template:
    spec: {restartPolicy: Never, terminationGracePeriodSeconds: 1, containers: [{name: main, image: $image, command: [/bin/false]}]}
YAML
kubectl wait --for=condition=complete job/sum --timeout=240s >/dev/null && [ "$(field job/sum '{.status.succeeded} {.status.failed}')" = "$indexes $((indexes / 10))" ] && pass "a Job of $(field job/sum '{.spec.completions}') indexes is complete: $(field job/sum '{.status.completedIndexes}')" || failed "job: $(field job/sum '{.status}')"
kubectl wait --for=condition=failed job/fails --timeout=180s >/dev/null && [ "$(field job/fails '{.status.failed} {.status.conditions[?(@.type=="Failed")].reason}')" = "2 BackoffLimitExceeded" ] && pass "a Job fails exactly beyond its limit" || failed "failing job: $(field job/fails '{.status}')"
kubectl create cronjob tick --image=$image --schedule='@every 2s' -- /bin/true >/dev/null 2>&1
wait_for 30 bash -c '[ -n "$(kubectl get cronjob tick -o "jsonpath={.status.lastSuccessfulTime}")" ]' && pass "a CronJob has run" || failed "cronjob: $(field cronjob/tick '{.status}')"
kubectl delete cronjob tick >/dev/null; kubectl delete job --all >/dev/null
refused=$(kubectl create cronjob bad --image=$image --schedule='61 * * * *' -- /bin/true 2>&1) || grep -q 'above 59' <<<"$refused" && pass "a wrong schedule is refused with the reason" || failed "schedule: $refused"

kubectl create configmap settings --from-literal=color=red >/dev/null
kubectl apply -f - >/dev/null <<YAML || fail "kubectl apply of the Deployment"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, annotations: {orchestra.dev/config-rollout: rolling}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: $image, command: [/bin/sh, -c, 'while :; do echo tick; sleep 1; done'], stdin: true, envFrom: [{configMapRef: {name: settings}}]}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: $image, command: [/bin/sh, -c, 'while :; do sleep 1; done']}]}
YAML
kubectl rollout status deployment/web --timeout=180s >/dev/null && kubectl rollout status daemonset/agent --timeout=180s >/dev/null && pass "a Deployment and a DaemonSet are ready" || failed "not ready: $(get pods)"
until_is 1 pdb/web '{.status.disruptionsAllowed}' && pass "the budget allows one" || failed "budget: $(field pdb/web '{.status}')"
wait_for 20 bash -c '[ -n "$(kubectl get deployment web -o "jsonpath={.metadata.annotations.orchestra\.dev/config-hash}")" ]'
kubectl patch configmap settings --type=merge -p '{"data":{"color":"blue"}}' >/dev/null
wait_for 40 bash -c '[ "$(kubectl exec deployment/web -- /bin/sh -c "echo \$color" 2>/dev/null)" = blue ]' && kubectl rollout status deployment/web --timeout=180s >/dev/null && pass "a changed ConfigMap rolls the Deployment" || failed "config rollout: $(kubectl get deployment web -o yaml)"
# One of the new ones: the old ones are still ending.
two_pods() { [ "$(get pods -l app=web -o name | wc -l)" = 2 ]; }
wait_for 20 two_pods || failed "pods of web: $(get pods)"
pod=$(get pods -l app=web -o name | head -n 1)
echo content >"$work/file"
kubectl cp "$work/file" "${pod#pod/}:/tmp/file" >/dev/null 2>&1 && [ "$(kubectl exec "$pod" -- cat /tmp/file)" = content ] && pass "kubectl cp" || skip "kubectl cp: the image has no tar"
timeout 60 kubectl attach "$pod" >"$work/attached" 2>/dev/null & attached=$!
wait_for 20 grep -q tick "$work/attached" && pass "kubectl attach sees the output" || failed "attach: $(cat "$work/attached")"
kill "$attached"; wait "$attached" 2>/dev/null
timeout 60 kubectl debug "$pod" --image=$image --quiet -c looker -- /bin/sh -c 'echo debugging' >/dev/null 2>&1
wait_for 20 bash -c "[ \"\$(kubectl logs $pod -c looker 2>/dev/null)\" = debugging ]" && pass "kubectl debug adds a container to a running pod" || failed "debug: $(kubectl logs "$pod" -c looker 2>&1)"
agent=$(get pods -l app=agent -o name)
top() { kubectl top pod "${agent#pod/}" --no-headers | matches -E ' [0-9]+m +[0-9]+Mi' && kubectl top node --no-headers | matches '^n1 '; }
wait_for 40 top && pass "kubectl top: $(kubectl top pod "${agent#pod/}" --no-headers | tr -s ' ')" || failed "top: $(kubectl top pod 2>&1) $(kubectl top node 2>&1)"
kubectl cordon n1 >/dev/null && [ "$(field node/n1 '{.spec.unschedulable}')" = true ] || failed "cordon: $(field node/n1 '{.spec}')"
# It tries again every five seconds: the second refusal is seen too.
kubectl drain n1 --ignore-daemonsets --force --delete-emptydir-data --timeout=120s >"$work/drain" 2>&1 & drain=$!
refused_twice() { [ "$(grep -c 'disruption budget' "$work/drain")" -ge 2 ]; }
wait_for 20 refused_twice && until_is 1 deployment/web '{.status.availableReplicas}' && [ "$(get pods -l app=web --field-selector=status.phase=Running -o name | wc -l)" -ge 1 ] && pass "a drain is held back by the budget" || failed "drain: $(cat "$work/drain")"
kill "$drain"; wait "$drain" 2>/dev/null
kubectl uncordon n1 >/dev/null && kubectl rollout status deployment/web --timeout=180s >/dev/null && pass "uncordoned: the Deployment is whole again" || failed "uncordon: $(get pods)"
[ "$(field daemonset/agent '{.status.numberReady}')" = 1 ] && pass "the DaemonSet's pod was left alone" || failed "daemonset: $(field daemonset/agent '{.status}')"
kubectl delete deployment/web daemonset/agent --timeout=180s >/dev/null && wait_for 30 bash -c '[ -z "$(kubectl get pods -o name)" ]' && pass "everything ends" || failed "left: $(get pods)"
kill "$owner"; end_of "$owner"; owner=
"$orchestra" down --data "$data" >/dev/null 2>&1
finish
