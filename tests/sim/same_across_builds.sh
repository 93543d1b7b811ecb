#!/usr/bin/env bash
# One seed gives one run, whoever compiled it: tests/sim/same_across_builds.sh [BUILD BUILD ..], by default release (-O2)
# and dev (-O0). Runs the scenarios below with the `orchestra` of each build and compares the reports, byte for byte;
# builds what is not there. Ends with 1 and the first difference where two differ.
set -euo pipefail
cd "$(dirname "$0")/../.."
builds=("$@")
[ ${#builds[@]} -gt 0 ] || builds=(release dev)
work=$(mktemp -d "${TMPDIR:-/tmp}/orc-same.XXXXXX")
trap 'rm -rf "$work"' EXIT
cat >"$work/peers.yaml" <<'YAML'
name: three peers under faults
seed: 11
duration: 10m
peers: 3
nodes:
- {name: node, count: 6, cpu: 4, memory: 16Gi, zones: [a, b, c]}
objects: |
  apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: default}
  spec:
    replicas: 12
    selector: {matchLabels: {app: web}}
    template:
      metadata: {labels: {app: web}}
      spec:
        containers:
        - {name: main, image: web:1, resources: {requests: {cpu: 500m, memory: 256Mi}}}
events:
- {at: 1m, kill_peer: leader, for: 1m}
- {at: 3m, partition_peer: random, for: 1m}
- {at: 4m, hand_over: true}
- {at: 5m, kill_node: random, for: 2m}
- {at: 6m, set_image: {of: default/web, image: "web:2"}}
YAML
cp examples/simulate/*.yaml "$work/"
scenarios=(one-node-lost peers)
for build in "${builds[@]}"; do
  program=build/$build/bin/orchestra
  [ -x "$program" ] || tools/build.sh "$build" orchestra
  for scenario in "${scenarios[@]}"; do
    # 1: an expectation did not hold; that too has to be the same.
    "$program" sim "$work/$scenario.yaml" --out "$work/$build-$scenario" >"$work/$build-$scenario.out" 2>&1 || [ $? = 1 ]
  done
done
first=${builds[0]}
for build in "${builds[@]:1}"; do
  for scenario in "${scenarios[@]}"; do
    for report in txt csv json svg; do
      cmp "$work/$first-$scenario/report.$report" "$work/$build-$scenario/report.$report" || {
        diff "$work/$first-$scenario/report.$report" "$work/$build-$scenario/report.$report" | head -n 5
        echo "FAIL $scenario: $build gives another run than $first"
        exit 1
      }
    done
    echo "ok   $scenario: $build gives the run of $first ($(grep -o 'hash of the run: .*' "$work/$first-$scenario/report.txt"))"
  done
done
