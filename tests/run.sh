#!/usr/bin/env bash
# Installs, builds and runs every test that this machine can; ends with `N passed, N failed, N skipped`.
#   tests/run.sh [--fast] [--long] [--sanitize] [--no-setup] [--only PATTERN]
#     --fast      pure tests only (dev build)       --long      also the long targets
#     --sanitize  a build by clang with ASan+UBSan, one by g++ with TSan (ORCHESTRA_SANITIZERS="tsan": only this)
#     --only P    programs and scripts whose name matches P
set -uo pipefail
cd "$(dirname "$0")/.."
fast=; long=; sanitize=; setup=yes; only=.
while [ $# -gt 0 ]; do
  case $1 in
    --fast) fast=yes ;;
    --long) long=yes ;;
    --sanitize) sanitize=yes ;;
    --no-setup) setup= ;;
    --only) only=$2; shift ;;
    -h|--help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "run.sh: unknown flag $1; see --help" >&2; exit 2 ;;
  esac
  shift
done
passed=0; failed=0; skipped=0; builder=
failures=()
[ -n "$long" ] && export ORCHESTRA_LONG=$long
started=$(date +%s)

# What a test may leave behind on the machine: compared before and after each one.
traces() {
  {
    awk '$5 ~ /orchestra|orc-test/ {print "mount " $5}' /proc/self/mountinfo
    find /sys/fs/cgroup -maxdepth 4 -type d -name 'orchestra*' 2>/dev/null | sed 's/^/cgroup /'
    ls /sys/class/net 2>/dev/null | sed -n 's/^\(orc.*\)/link \1/p'
    command -v nft >/dev/null && nft list tables 2>/dev/null | sed -n 's/^table \(.*orc.*\)/nft \1/p'
    ls /run/orchestra 2>/dev/null | sed 's/^/run /'
    ps -eo pid=,comm= | awk '$2 ~ /^(orch-shim|orch-init|orchestra)/ {print "process " $1 " " $2}'
  } | sort
}

# In the lane of pure programs, and within a pair, nothing is compared: what changes on the machine is the other's doing.
watch_traces() { [ -n "${pure:-}" ] || traces; }

# left_behind BEFORE: what of it is different now; nothing, when that has gone within a moment.
left_behind() {
  local after
  after=$(watch_traces)
  if [ "$1" != "$after" ]; then  # what ends by itself gets a moment
    for _ in $(seq 30); do read -rt 0.5 <> <(:); after=$(watch_traces); [ "$1" = "$after" ] && break; done
  fi
  [ "$1" = "$after" ] || diff <(echo "$1") <(echo "$after") | grep '^[<>]' | head -n 5 | paste -sd';'
}

# run_one NAME SECONDS COMMAND..: counts the closing line; a crash, a time-out or a leak is a failure.
run_one() {
  local name=$1 seconds=$2; shift 2
  local log=$logs/${name//\//-}.log before left line status took begin said
  [[ $name =~ $only ]] || return 0
  before=$(watch_traces); begin=$(date +%s%3N)
  timeout --kill-after=10 "$seconds" "$@" >"$log" 2>&1 </dev/null
  status=$?
  took=$(( $(date +%s%3N) - begin ))
  left=$(left_behind "$before")
  line=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1)
  local p=0 f=0 s=0
  [ -n "$line" ] && read -r p f s < <(sed 's/[^0-9]\+/ /g' <<<"$line")
  if [ "$status" = 77 ]; then s=$((s + 1)); fi
  if [ "$status" != 0 ] && [ "$status" != 77 ] && [ "$f" = 0 ]; then f=1; failures+=("$name: exit status $status$([ "$status" = 124 ] && echo " (over $seconds s)")"); fi
  if [ "$status" = 0 ] && [ -z "$line" ]; then f=1; failures+=("$name: no closing line, so no test ran"); fi
  if [ -n "$left" ]; then
    f=$((f + 1))
    failures+=("$name: left behind: $left")
  fi
  passed=$((passed + p)); failed=$((failed + f)); skipped=$((skipped + s))
  printf '%-28s %5d passed %3d failed %3d skipped %8d ms\n' "$name" "$p" "$f" "$s" "$took"
  grep -E '^SKIP ' "$log" | sed 's/^/    /'
  if [ "$f" != 0 ]; then
    # Said again at the end, for whoever sees nothing but that.
    mapfile -t said < <(grep -E '^TEST CASE:|(ERROR|FATAL ERROR): |^  values: |^FAILED|^FAIL |^terminate|Sanitizer: |^\*\*\*' "$log" | cut -c1-240 | head -n 12)
    failures+=("$name: its end stands above" "${said[@]/#/$name: }")
    grep -vE '^SKIP ' "$log" | tail -n 60 | sed 's/^/    | /'
  fi
}

run_programs() {  # BUILD_DIR SUFFIX SECONDS NAME..
  local build=$1 suffix=$2 seconds=$3 program
  shift 3
  for program; do
    [ -z "$builder" ] || wait_built "$program" || continue
    # test_sim_bugs holds files of the library a second time, on purpose: two of each global.
    ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_odr_violation=$([ "$program" = test_sim_bugs ] && echo 0 || echo 2) \
      run_one "$program$suffix" "$seconds" "$build/bin/$program"
  done
}

# Every program of the tests, as tests/CMakeLists.txt makes them.
test_programs() {
  local folder file
  for folder in tests/*/; do
    compgen -G "$folder*.cpp" >/dev/null || compgen -G "$folder*/*.cpp" >/dev/null || continue
    folder=$(basename "$folder")
    case $folder in
      support|fuzz|consumer) ;;
      *) echo "test_$folder" ;;
    esac
  done
  for file in tests/fuzz/*.cpp; do
    [ "$file" = tests/fuzz/driver.cpp ] || echo "fuzz_$(basename "$file" .cpp)"
  done
}

# What is run under PRESET. What has one thread has no races: the fuzz targets and the simulators, which would take most
# of the time.
sanitized() {
  if [ "$1" = tsan ]; then test_programs | grep -vE '^(fuzz|test_sim)'; else test_programs; fi
}

# Programs that compute, or wait for processes of their own: they touch nothing of the machine that traces() knows, and
# run beside those that do.
pure_programs='fuzz_.*|test_sim.*|test_(api|cel|sched|metrics|house|store|compat|apiserver|auth|base|controllers|logs|net_dns|net_http|net_ingress)'

# The rest of the build, in the background, with what the tests leave of the processors.
build_rest() {  # PRESET
  rm -f "$logs/build.status" "$logs/build.lines"
  set -m  # a process group of its own: it goes when this script is broken off
  (
    nice -n 19 tools/build.sh "$1" >"$logs/build.lines" 2>&1
    echo $? >"$logs/build.status"
  ) &
  builder=$!
  set +m
}

# wait_built PROGRAM: until it is linked, or the build is done; false when the build failed before.
wait_built() {
  local program=${1/#fuzz_*/fuzzers}
  until grep -qs "Linking CXX executable bin/$program\$" "$logs/build.lines"; do
    [ -e "$logs/build.status" ] && { [ "$(cat "$logs/build.status")" = 0 ]; return; }
    read -rt 0.5 <> <(:)
  done
  true  # the loop's own status is that of the last wait
}

run_script() {
  local name=${1#tests/e2e/} program
  for program in $(sed -n 's/^# built: //p' "$1"); do wait_built "$program" || return; done
  run_one "${name%.sh}" 900 "$1"
}

beside() { sed -n 's/^# beside: \(.*\)/tests\/e2e\/\1.sh/p' "$1"; }

# Scripts one after another, each after the programs of tests that it says it needs; one that waits most of its time
# together with the one that it names, with one look at the machine around both.
run_scripts() {  # SCRIPT..
  local script other before left named twice
  named=$(for script; do beside "$script"; done)
  twice=$(sort <<<"$named" | uniq -d)
  [ -z "$twice" ] || { failures+=("$twice: two scripts want to run beside it"); failed=$((failed + 1)); }
  for script; do
    [ -x "$script" ] && ! grep -qxF "$script" <<<"$named" || continue
    other=$(beside "$script")
    [ -n "$other" ] || { run_script "$script"; continue; }
    before=$(watch_traces)
    in_lane first run_script "$script" & in_lane second run_script "$other"
    wait $!
    gather first; gather second
    left=$(left_behind "$before")
    [ -z "$left" ] || { failures+=("$script or $other: left behind: $left"); failed=$((failed + 1)); }
  done
}

# in_lane NAME COMMAND..: in a shell of its own, without looks at the machine; gather NAME says and counts what it did.
in_lane() (
  pure=yes; passed=0; failed=0; skipped=0; failures=()
  rm -f "$logs/$1.result"
  "${@:2}" >"$logs/$1.lines" 2>&1
  printf '%s\n' "$passed $failed $skipped" "${failures[@]}" >"$logs/$1.result"
)
gather() {
  local p f s
  cat "$logs/$1.lines"
  [ -s "$logs/$1.result" ] || { failures+=("$1: the lane broke off"); failed=$((failed + 1)); return; }
  { read -r p f s; mapfile -t -O "${#failures[@]}" failures; } <"$logs/$1.result"
  passed=$((passed + p)); failed=$((failed + f)); skipped=$((skipped + s))
}

# Both lanes, while the programs of the tests are still being built: the scripts of tests/e2e, which need none of them,
# begin. The pure lane's lines come behind the others'.
run_lanes() {  # BUILD_DIR
  local build=$1 all quick scripts late lane
  mapfile -t all < <(test_programs | grep -vxE "$pure_programs")
  mapfile -t quick < <(test_programs | grep -xE "$pure_programs")
  mapfile -t late < <(grep -l '^# built: ' tests/e2e/*.sh tests/e2e/net/*.sh)
  mapfile -t scripts < <(ls tests/e2e/*.sh tests/e2e/net/*.sh | grep -vxF "$(printf '%s\n' "${late[@]}")")
  build_rest "${build#build/}"
  set -m
  in_lane pure run_programs "$build" "" 1500 "${quick[@]}" &
  lane=$!
  set +m
  trap "kill -- -$lane -$builder 2>/dev/null" EXIT
  run_scripts "${scripts[@]}"
  run_programs "$build" "" 900 "${all[@]}"
  run_scripts "${late[@]}"
  wait "$lane" "$builder"
  trap - EXIT
  [ "$(cat "$logs/build.status")" = 0 ] || { failures+=("the build failed"); failed=$((failed + 1)); tail -n 60 "$logs/build.lines"; }
  gather pure
}

finish() {
  echo
  for line in "${failures[@]:-}"; do [ -n "$line" ] && echo "FAILED $line"; done
  echo "took $(( $(date +%s) - started )) s"
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" = 0 ]
  exit
}

[ -n "$setup" ] && { tools/setup.sh --tests && tools/fetch-peers.sh || exit 1; }
export PATH=$PATH:$PWD/build/peers/root/usr/bin:$PWD/build/peers/dns/bin
old_kubectl=$PWD/build/peers/kubectl/usr/bin/kubectl
[ -x "$old_kubectl" ] && command -v kubectl >/dev/null && export ORCHESTRA_KUBECTL=${ORCHESTRA_KUBECTL:-$old_kubectl}
if [ -n "$sanitize" ]; then
  for preset in ${ORCHESTRA_SANITIZERS:-asan tsan}; do
    logs=build/$preset/test-logs
    if [ "$preset" = asan ] && ! command -v clang++-16 >/dev/null; then
      echo "SKIP asan: needs the Debian package clang-16 (older ones lack C++20 that we use)"; skipped=$((skipped + 1)); continue
    fi
    mapfile -t programs < <(sanitized "$preset")
    tools/build.sh "$preset" "${programs[@]}" || { failures+=("$preset: the build failed"); failed=$((failed + 1)); continue; }
    mkdir -p "$logs"
    export SIM_SEEDS=${SIM_SEEDS:-10}  # of 40 in the default run: a seed takes far longer here
    # die_after_fork=0: some tests fork a host that is to be killed.
    export TSAN_OPTIONS=halt_on_error=0:exitcode=66:die_after_fork=0 ASAN_OPTIONS=detect_leaks=1
    run_programs "build/$preset" "-$preset" 1800 "${programs[@]}"
  done
  finish
fi
if [ -n "$fast" ]; then
  tools/build.sh dev test_base test_house test_api test_store test_sched test_controllers test_node test_logs || exit 1
  logs=build/dev/test-logs; mkdir -p "$logs"
  for area in base house api store sched controllers node logs; do
    [ -x "build/dev/bin/test_$area" ] && run_one "test_$area" 60 "build/dev/bin/test_$area"
  done
  finish
fi
tools/build.sh release programs || { echo "the build failed"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
logs=build/release/test-logs; mkdir -p "$logs"
run_lanes build/release
finish
