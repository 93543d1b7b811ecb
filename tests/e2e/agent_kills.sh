#!/usr/bin/env bash
# The program is killed with -9 at random moments while pods start, while a volume changes under them, and while they
# end. Nothing starts twice, nothing is lost, nothing is left on the machine.
# beside: stateful_nodes
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
one_cluster
up() { start --node-name n1 --isolation full --listen 127.0.0.1:6443 --ingress 127.0.0.1:8080; }
murder() { kill -9 "$owner"; wait "$owner" 2>/dev/null; up; }
pause() { read -rt "$1" <> <(:) || true; }  # a moment, not a wait for something
rounds=${ORCHESTRA_LONG:+25}; rounds=${rounds:-6}
up
instance=$(cat "$data/instance")
mkdir -p "$work/starts" && chmod 777 "$work/starts"
kubectl create configmap settings --from-literal=a=0 --from-literal=b=0 >/dev/null
pods_of() { # PREFIX COUNT
  local i
  for i in $(seq "$2"); do
    cat <<YAML
---
apiVersion: v1
kind: Pod
metadata: {name: $1-$i, labels: {set: $1}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: starts, hostPath: {path: $work/starts}}, {name: settings, configMap: {name: settings}}]
  initContainers:
  - {name: first, image: quickstart/web:1, command: [/bin/sh, -c, 'echo x >> /starts/\$HOSTNAME.init'], volumeMounts: [{name: starts, mountPath: /starts}]}
  containers:
  - name: main
    image: quickstart/web:1
    command: [/bin/sh, -c, 'echo x >> /starts/\$HOSTNAME; while :; do sleep 1; done']
    volumeMounts: [{name: starts, mountPath: /starts}, {name: settings, mountPath: /settings}]
YAML
  done
}

# In the middle of starts: each container's program ran once, whatever was killed.
for round in $(seq "$rounds"); do
  pods_of "s$round" 4 | kubectl apply -f - >/dev/null || failed "apply"
  pause "0.$((RANDOM % 60 + 10))"
  murder
  kubectl wait --for=condition=Ready pod -l set="s$round" --timeout=180s >/dev/null || failed "round $round: $(kubectl get pods -l set="s$round")"
done
[ "$(kubectl get pods -o 'jsonpath={.items[*].status.containerStatuses[0].restartCount}' | tr ' ' '\n' | sort -u)" = 0 ] && pass "$rounds kills in the middle of starts: all pods are ready, none was restarted" || failed "restarts: $(kubectl get pods)"
# A program that runs has not yet written its line.
starts() { (cd "$work/starts" && wc -l s*-? | awk '$2 != "total" {print $1}' | sort | uniq -c | tr -s ' '); }
all_once() { [ "$(starts)" = " $((rounds * 4)) 1" ]; }
wait_for 20 all_once && pass "every program was started once" || failed "not each started once: $(cd "$work/starts" && wc -l s*-?)"

# In the middle of volume updates: the last version arrives, and no half-made one stays.
for round in $(seq "$rounds"); do
  kubectl patch configmap settings --type=merge -p "{\"data\":{\"a\":\"$round\",\"b\":\"$round\"}}" >/dev/null
  pause "0.$((RANDOM % 30 + 10))"
  murder
done
versions() { local f; for f in "$data"/pods/*/volumes/settings/[ab]; do cat "$f"; echo; done | sort | uniq -c | tr -s ' '; }
arrived() { [ "$(versions)" = " $((rounds * 4 * 2)) $rounds" ]; }
wait_for 30 arrived && pass "$rounds kills in the middle of volume updates: the last version is in every pod" || failed "versions: $(versions)"
old_versions() { find "$data"/pods/*/volumes/settings -maxdepth 1 -name '..*' ! -name ..data | xargs -n1 dirname | sort | uniq -c | awk '$1 > 1'; }
one_version() { [ -z "$(old_versions)" ]; }  # the old one goes when the new one is in its place
wait_for 10 one_version && pass "and no old version is left in a volume" || failed "left in volumes: $(old_versions)"

# In the middle of ends.
for round in $(seq "$rounds"); do
  kubectl delete pod -l set="s$round" --wait=false >/dev/null
  pause "0.$((RANDOM % 90 + 10))"
  murder
done
gone() { [ -z "$(kubectl get pods -o name)" ]; }
wait_for 60 gone && pass "$rounds kills in the middle of ends: no pod is left in the API" || failed "left: $(kubectl get pods)"
clean() { [ -z "$(ls "$data/pods")" ] && [ -z "$(ls "$data/pods-log")" ] && [ -z "$(ls "/run/orchestra/$instance/pods" 2>/dev/null)" ] && ! grep -q "$data/pods/" /proc/self/mountinfo && ! pgrep -f "starts/.*HOSTNAME" >/dev/null; }
wait_for 30 clean && pass "no folder, mount or process of a pod is left" || failed "left: $(ls "$data/pods" "$data/pods-log"; pgrep -af 'starts/.*HOSTNAME')"
groups() { find /sys/fs/cgroup -path "*orchestra-$instance*" -name 'pod*' -type d 2>/dev/null; }
no_groups() { [ -z "$(groups)" ]; }
wait_for 10 no_groups && pass "and no cgroup" || failed "cgroups: $(groups | head -n 5)"
kill "$owner"; end_of "$owner"; owner=
"$orchestra" down --data "$data" >/dev/null 2>&1
finish
