#!/usr/bin/env bash
# The runtime on a real kernel with cgroup v2, v1 and both (tests/vm): the same test program as on this machine, as
# root and as an ordinary user with a delegated subtree.
# built: test_runtime
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
modes=${ORCHESTRA_VM_MODES:-v2 v1 hybrid}
declare -A booted
cleanups+=('kill $(jobs -p) 2>/dev/null')
# All at once: a guest is emulated by one thread.
for mode in $modes; do tests/vm/boot.sh "$mode" 500 >"$work/$mode.tap" & booted[$mode]=$!; done
for mode in $modes; do
  wait "${booted[$mode]}"
  if [ $? = 77 ]; then grep '^SKIP' "$work/$mode.tap" | while read -r line; do echo "$line"; done; skips=$((skips + 1)); continue; fi
  while IFS= read -r line; do
    case $line in
      "ok "*"# SKIP"*) skip "$mode: ${line#ok - }" ;;
      "ok "*) pass "$mode: ${line#ok - }" ;;
      "not ok "*) failed "$mode: ${line#not ok - }" ;;
      *) echo "$line" ;;
    esac
  done <"$work/$mode.tap"
done
finish
