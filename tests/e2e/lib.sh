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
# The script again, in a network namespace of its own with loopback only; flags are unshare's.
in_own_network() {
  local script; script=tests/e2e/$(basename "$0"); [ -e "$script" ] || script=tests/e2e/net/$(basename "$0")
  [ -n "${INSIDE:-}" ] || exec unshare --net "$@" env INSIDE=1 bash -c 'ip link set lo up && exec "$0"' "$PWD/$script"
}
# free_ports N: of 127.0.0.1, for programs that have to be told of each other before they listen. Needs python3. They are
# none that the kernel gives to whoever asks for any: nobody else gets them before they are used, or while their owner is away.
free_ports() {
  python3 -c 'import random, socket, sys
s=[]
while len(s) < int(sys.argv[1]):
  x=socket.socket()
  try: x.bind(("127.0.0.1", random.randrange(20000, 30000)))
  except OSError: continue
  s.append(x)
print(*[x.getsockname()[1] for x in s])' "$1"
}
# link_packets LINK rx|tx: of this network namespace (/sys shows that of its mount).
link_packets() { sed -n "s/^ *$1: *//p" /proc/net/dev | awk -v way="$2" '{print way == "rx" ? $2 : $10}'; }
# wait_for SECONDS COMMAND..: until the command succeeds. SECONDS are those of a quiet machine: a busy one gets three times
# as many. How long something took is measured beside it where that is what a script is about.
wait_for() {
  local end=$(( $(date +%s) + 3 * $1 )); shift
  until "$@" >/dev/null 2>&1; do
    [ "$(date +%s)" -ge "$end" ] && return 1
    read -rt 0.1 <> <(:) || true
  done
}
# end_of PID: its exit status, like wait; a program that does not end in a minute is killed (137).
end_of() { wait_for 20 has_ended "$1" || kill -9 "$1"; wait "$1"; }
has_ended() { ! kill -0 "$1"; }
# matches PATTERN: grep -q of what is piped in, all of which is read. grep -q ends at the first match, which kills what writes
# on; then pipefail takes a match for none.
matches() { local text; text=$(cat); grep -q "$@" <<<"$text"; }
export -f matches
# own_programs PATTERN: of lines "PID PPID COMMAND..", those that match, without the parent's number, and without what such a
# program has forked: httpd has a child with its own command line while it answers a probe.
own_programs() { awk -v what="$1" '{ parent[$1] = $2; rest[$1] = $0; sub(/^ *[0-9]+ +[0-9]+ +/, "", rest[$1]); if (rest[$1] ~ what) found[$1] } END { for (p in found) if (!(parent[p] in found)) print p, rest[p] }'; }

# What scripts with one cluster begin with: root, images, kubectl; then the script again in a network namespace of its own
# with loopback only. Sets data, KUBECONFIG and owner, which at_exit kills, and takes the cluster off the machine.
one_cluster() {
  need_root
  need_images
  command -v kubectl >/dev/null || { skip "kubectl is not on PATH"; finish; }
  in_own_network
  data=$work/data
  export KUBECONFIG=$data/admin.kubeconfig HOME=$work
  owner=
  cleanups+=('[ -n "$owner" ] && kill -9 "$owner" 2>/dev/null && wait "$owner" 2>/dev/null; "$orchestra" down --data "$data" >/dev/null 2>&1')
}
# start [FLAG..]: `orchestra up` on $data, with free ports unless flags are given, until it is ready; owner is its pid.
start() {
  [ $# -gt 0 ] || set -- --listen 127.0.0.1:0 --ingress 127.0.0.1:0
  : >"$work/up.out"  # here: the program's own opening may come after the first look for its line
  "$orchestra" up --data "$data" "$@" >"$work/up.out" 2>>"$work/up.err" & owner=$!
  wait_for 20 grep -q '^ready in' "$work/up.out" || { tail "$work/up.err"; fail "orchestra up was not ready"; }
}
# Test hosts with names, on one switch. Not by `ip netns exec`, which mounts a /sys without cgroups: pods have no limits there.
on() { local host=$1; shift; nsenter --net="/run/netns/$host" "$@"; }
# In the background: the job's pid is that of the program.
exec_on() { local host=$1; shift; exec nsenter --net="/run/netns/$host" "$@"; }
address() { case $1 in a) echo 192.0.2.1 ;; b) echo 192.0.2.2 ;; c) echo 192.0.2.3 ;; esac; }
make_switch() { ip link add switch type bridge && ip link set switch up || { skip "no bridge can be made here"; finish; }; }
make_machine() {
  ip netns add "$1" && ip link add "to-$1" type veth peer name eth0 netns "$1" && ip link set "to-$1" master switch up || fail "host $1 could not be made"
  on "$1" ip link set lo up; on "$1" ip addr add "$(address "$1")/24" dev eth0; on "$1" ip link set eth0 up
}
