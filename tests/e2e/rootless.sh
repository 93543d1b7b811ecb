#!/usr/bin/env bash
# An ordinary user runs pods at isolation level rootless: the runtime's own cases with ranges in /etc/subuid and
# without, then a whole cluster with the quickstart's manifests, kill -9, adoption, and down, which leaves nothing.
# The user exists in a mount namespace of this script only (its own /etc/passwd, subuid, subgid).
# built: test_runtime
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
need_root
[ -n "${INSIDE:-}" ] || examples/quickstart/prepare-images.sh "$built" >/dev/null 2>&1  # packages come from outside
[ -n "${INSIDE:-}" ] || exec unshare --net --mount env INSIDE=1 bash -c 'ip link set lo up && exec "$0"' "$PWD/tests/e2e/rootless.sh"
id=47110
echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start  # of this network namespace: Services listen on port 80
home=$work/home
mkdir -p "$home/run" && chown -R $id:$id "$home" && chmod 755 "$work" && chmod 700 "$home" "$home/run"
for file in passwd group subuid subgid; do cp "/etc/$file" "$work/$file" 2>/dev/null || : >"$work/$file"; done
echo "orctest:x:$id:$id::$home:/bin/sh" >>"$work/passwd"; echo "orctest:x:$id:" >>"$work/group"
for file in passwd group; do mount --bind "$work/$file" "/etc/$file"; done
for file in subuid subgid; do [ -e "/etc/$file" ] || : >"/etc/$file"; mount --bind "$work/$file" "/etc/$file"; done
ranges() { for file in subuid subgid; do echo "$1" >"$work/$file"; done; }
user=(setpriv --reuid $id --regid $id --clear-groups env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$home" XDG_RUNTIME_DIR="$home/run" TMPDIR="$home" KUBECONFIG="$home/data/admin.kubeconfig")
as_user() { "${user[@]}" "$@"; }
refused=$(as_user unshare --user true 2>&1) || { skip "user namespaces are refused here: $refused"; finish; }

cases() {  # WHAT
  as_user timeout 300 "$built/bin/test_runtime" -tc='rootless*' >"$work/cases.log" 2>&1
  if [ $? = 0 ] && grep -qE ' 0 failed, [01] skipped$' "$work/cases.log"; then pass "$1: $(tail -n 1 "$work/cases.log")"; else cat "$work/cases.log"; failed "$1"; fi
}
ranges ""
cases "runtime cases as an ordinary user with one mapped id"
if command -v newuidmap >/dev/null; then
  ranges "orctest:700000:65536"
  cases "runtime cases with 65536 further ids by newuidmap"
else
  skip "ranges of ids: needs the Debian package uidmap"
fi
as_user "$orchestra" doctor >"$work/doctor" && grep -q '^yes  isolation level rootless' "$work/doctor" && pass "doctor finds level rootless" || { cat "$work/doctor"; failed "doctor"; }
limited=$(as_user unshare --user --map-root-user sh -c 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$0" doctor' "$orchestra")
grep -A3 '^NO   isolation level rootless' <<<"$limited" | grep -q 'max_user_namespaces' && pass "doctor names the cause when user namespaces are used up" || { grep -A3 rootless <<<"$limited"; failed "doctor's cause"; }

# The whole: one process of an ordinary user.
command -v kubectl >/dev/null || { skip "kubectl is not on PATH"; finish; }
need_images
owner=
cleanups+=('[ -n "$owner" ] && kill -9 "$owner" 2>/dev/null; as_user "$orchestra" down --data "$home/data" >/dev/null 2>&1')
up() {
  : >"$work/up.out"
  "${user[@]}" "$orchestra" up --data "$home/data" --listen 127.0.0.1:0 --ingress 127.0.0.1:0 --isolation rootless >"$work/up.out" 2>>"$work/up.err" &
  owner=$!
  wait_for 30 grep -q '^ready in' "$work/up.out" || { cat "$work/up.err"; fail "orchestra up --isolation rootless was not ready"; }
}
pids() { ps -U $id -o pid=,ppid=,args= | own_programs 'httpd -f|redis-server' | sort; }
up
grep -q 'isolation rootless' "$work/up.out" && pass "up says that it is rootless: $(grep -o '^ready in [0-9]* ms' "$work/up.out")" || failed "$(cat "$work/up.out")"
as_user kubectl apply -f examples/quickstart/ >"$work/apply.out" 2>&1 || { cat "$work/apply.out"; fail "kubectl apply"; }
ready=yes
for deployment in redis web; do
  as_user kubectl rollout status -n shop "deployment/$deployment" --timeout=180s >/dev/null 2>&1 || { ready=; as_user kubectl get events -n shop | tail -n 8; tail -n 5 "$work/up.err"; }
done
[ -n "$ready" ] && pass "the quickstart's pods are ready" || fail "the quickstart's pods did not become ready"
[ "$(as_user kubectl get nodes -o 'jsonpath={.items[0].metadata.labels.orchestra\.dev/isolation}')" = rootless ] && pass "the node says so" || failed "the node's label"
visit() { local address; address=$(grep -o 'ingress http://[^ ]*' "$work/up.out" | sed 's/.*http:..//'); exec 5<>"/dev/tcp/${address%:*}/${address##*:}" && printf 'GET /cgi-bin/visit HTTP/1.0\r\nHost: shop.example\r\n\r\n' >&5 && timeout 10 grep -q "visits=" <&5; }
wait_for 30 visit && pass "a request goes through the ingress to web and redis" || failed "the ingress does not serve"
[ "$(as_user kubectl exec -n shop deployment/web -- id -u 2>/dev/null)" = 0 ] && pass "kubectl exec: root inside" || failed "kubectl exec"
before=$(pids)
kill -9 "$owner"; wait "$owner" 2>/dev/null
[ "$(pids)" = "$before" ] && [ -n "$before" ] || failed "processes changed when the program was killed"
up
wait_for 30 visit && [ "$(pids)" = "$before" ] && pass "after kill -9 the next start keeps the same processes" || failed "after kill -9: $(diff <(echo "$before") <(pids))"
kill "$owner"; end_of "$owner" 2>/dev/null; owner=
as_user "$orchestra" down --data "$home/data" >"$work/down.log" 2>&1 && pass "orchestra down" || { cat "$work/down.log"; failed "orchestra down"; }
left() { ps -U $id -o stat=,pid=,args= | grep -v '^Z'; }  # what is dead waits for the machine's pid 1
none_left() { [ -z "$(left)" ]; }
wait_for 5 none_left && pass "no process of the user is left" || failed "left: $(left)"
[ -z "$(ls -A "$home/run" 2>/dev/null)" ] && [ -z "$(find "$home/data/images/snapshots" -mindepth 1 -maxdepth 1 2>/dev/null)" ] && pass "no state and no root of a container is left" || failed "left: $(find "$home/run" "$home/data/images/snapshots" -maxdepth 2)"
finish
