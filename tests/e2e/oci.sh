#!/usr/bin/env bash
# The rules of the OCI runtime specification (tests/runtime/oci_suite.py) with orchestra-oci, and as a cross-check
# of the suite itself with Debian's crun and runc where they are installed: a rule that both peers fail is ours.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
[ "$(id -u)" = 0 ] || { skip "needs root"; finish; }
command -v python3 >/dev/null || { skip "python3 is not installed"; finish; }
[ -x /bin/busybox ] || { skip "the Debian package busybox-static is not installed"; finish; }
count() {  # NAME: the lines of a TAP run
  while IFS= read -r line; do
    case $line in
      "ok "*"# SKIP "*) skip "$1: ${line#ok * }" ;;
      "ok "*) pass "$1: ${line#ok * }" ;;
      "not ok "*) failed "$1: ${line#not ok }" ;;
      "# "*) echo "$line" ;;
    esac
  done
}
count orchestra-oci < <(timeout 100 python3 tests/runtime/oci_suite.py "$PWD/$built/bin/orchestra-oci")
[ "${1:-}" = --peers ] || finish
# Peers: their failures are shown, not counted. crun refuses hybrid machines, so it sees v1 alone.
for peer in crun runc; do
  path=$(command -v "$peer") || { skip "$peer is not installed"; continue; }
  echo "peer $peer:"
  unshare --mount --propagation private bash -c 'umount /sys/fs/cgroup/unified 2>/dev/null; "$@"; rm -rf /sys/fs/cgroup/unified/orcsuite*' peer \
    timeout 100 python3 tests/runtime/oci_suite.py "$path" | grep -E '^(not ok|#|ok .*SKIP)' | sed 's/^/  /'
done
finish
