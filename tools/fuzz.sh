#!/usr/bin/env bash
# Runs fuzz targets under libFuzzer with ASan and UBSan: tools/fuzz.sh [--seconds N] [--keep] [TARGET..]
#   --seconds N  for each target (default 600)   --keep  what found new branches goes into tests/fuzz/corpus
# TARGET is the name of a file in tests/fuzz without .cpp; none means all. Ends with a line for each; exits 1 on a finding.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=600; keep=; targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=$2; shift ;;
    --keep) keep=yes ;;
    -h|--help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "fuzz.sh: unknown flag $1; see --help" >&2; exit 2 ;;
    *) [ -f "tests/fuzz/$1.cpp" ] || { echo "fuzz.sh: no target tests/fuzz/$1.cpp" >&2; exit 2; }; targets+=("$1") ;;
  esac
  shift
done
command -v clang++-16 >/dev/null || { echo "fuzz.sh: needs the Debian package clang-16" >&2; exit 2; }
[ "${#targets[@]}" != 0 ] || mapfile -t targets < <(cd tests/fuzz && ls -- *.cpp | sed -n '/^driver/!s/\.cpp$//p')
tools/build.sh fuzz "${targets[@]/#/fuzz_}"
findings=0; lines=()
for target in "${targets[@]}"; do
  found=build/fuzz/corpus/$target; log=build/fuzz/$target.log
  mkdir -p "$found" "build/fuzz/findings/$target"
  echo "fuzz: $target for $seconds s"
  status=0
  build/fuzz/bin/"fuzz_$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/findings/$target/" "$found" "tests/fuzz/corpus/$target" >"$log" 2>&1 || status=$?
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  branches=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
  result=clean
  if [ "$status" != 0 ]; then
    result="FINDING, see $log"; findings=$((findings + 1))
  elif [ -n "$keep" ]; then
    # Only what adds branches to the committed files, the smallest for each.
    build/fuzz/bin/"fuzz_$target" -merge=1 "tests/fuzz/corpus/$target" "$found" >>"$log" 2>&1 || true
  fi
  lines+=("$(printf '%-22s %6s s %12s runs %7s branches  %s' "$target" "$seconds" "${runs:-?}" "${branches:-?}" "$result")")
done
printf '%s\n' "${lines[@]}"
[ "$findings" = 0 ]
