# Shared by the e2e scripts: counting, a work folder, test hosts (network namespaces without uplink).
built=${ORCHESTRA_BUILD:-build/release}  # the build that is tested, relative to the source tree
orchestra=$PWD/$built/bin/orchestra
passed=0; failures=0; skips=0
# A script that starts itself again in namespaces of its own goes on with the folder it had.
work=${ORC_E2E_WORK:-$(mktemp -d "${TMPDIR:-/tmp}/orc-test-e2e.XXXXXX")}
export ORC_E2E_WORK=$work
cleanups=()
at_exit() {
  local c
  for c in "${cleanups[@]:-}"; do [ -n "$c" ] && eval "$c"; done
  rm -rf "$work"
}
trap at_exit EXIT
trap 'exit 130' INT TERM
pass() { passed=$((passed + 1)); echo "ok   $*"; }
failed() { failures=$((failures + 1)); echo "FAIL $*"; }
fail() { failed "$@"; finish; }
skip() { skips=$((skips + 1)); echo "SKIP $(basename "$0" .sh): $*"; }
finish() { echo "$passed passed, $failures failed, $skips skipped"; [ "$failures" = 0 ] && exit 0; exit 1; }
need_root() { [ "$(id -u)" = 0 ] || { skip "needs root: network namespaces"; finish; }; }
need_images() {
  examples/quickstart/prepare-images.sh "$built" >"$work/images.log" 2>&1 || { cat "$work/images.log"; skip "the quickstart's images could not be made: $(tail -n 1 "$work/images.log")"; finish; }
}
# Runs a command in a fresh network namespace with loopback only: no packet leaves the machine.
in_test_host() { unshare --net bash -c 'ip link set lo up && exec "$@"' test-host "$@"; }
# link_packets LINK rx|tx: of this network namespace (/sys shows that of its mount).
link_packets() { sed -n "s/^ *$1: *//p" /proc/net/dev | awk -v way="$2" '{print way == "rx" ? $2 : $10}'; }
# wait_for SECONDS COMMAND..: until the command succeeds.
wait_for() {
  local end=$(( $(date +%s) + $1 )); shift
  until "$@" >/dev/null 2>&1; do
    [ "$(date +%s)" -ge "$end" ] && return 1
    read -rt 0.1 <> <(:) || true
  done
}
