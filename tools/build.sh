#!/usr/bin/env bash
# Configures and builds one preset (default release), with ninja's progress. tools/build.sh [PRESET [TARGET..]]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
shift || true
jobs=$(nproc)
memory_gib=$(awk '/MemTotal/ {print int($2/1048576)}' /proc/meminfo)
[ "$memory_gib" -lt $((jobs * 2)) ] && jobs=$((memory_gib / 2 > 0 ? memory_gib / 2 : 1))
start=$(date +%s)
# Each time: which sources are compiled together depends on what they define.
[ -f "build/$preset/build.ninja" ] || echo "build: configuring build/$preset"
cmake --preset "$preset" >"build-$preset.log" 2>&1 || { cat "build-$preset.log"; rm -f "build-$preset.log"; exit 1; }
rm -f "build-$preset.log"
export NINJA_STATUS='build: [%f/%t, %es] '
if [ -t 1 ]; then
  ninja -C "build/$preset" -j "$jobs" "$@"
else
  # One line every fifteen seconds instead of one per file, and one for each program that is ready (tests/run.sh reads
  # them). Read by the shell: mawk would hold lines back.
  ninja -C "build/$preset" -j "$jobs" "$@" 2>&1 | {
    last=-15
    while IFS= read -r line; do
      case $line in
        *"Linking CXX executable"*) ;;
        build:*) [ $((SECONDS - last)) -lt 15 ] && continue; last=$SECONDS ;;
      esac
      printf '%s\n' "$line"
    done
  }
fi
echo "build: build/$preset is up to date after $(( $(date +%s) - start )) s"
