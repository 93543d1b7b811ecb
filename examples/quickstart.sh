#!/usr/bin/env bash
# From nothing to a running shop: installs what is missing (Debian packages), builds, starts a one-node
# cluster in one process, builds its images, applies ordinary Kubernetes manifests, and tries what a user
# would try. Every line it prints is a check that can fail the run.
#
#   examples/quickstart.sh                      keeps running on a terminal, until Ctrl-C
#   examples/quickstart.sh --once               ends with 0 and cleans up when all checks passed
#     --isolation full|process|best             how pods are kept apart (default best)
#     --no-build                                the build is there already (tests)
set -euo pipefail
cd "$(dirname "$0")/.."
once=; isolation=best; build=yes
[ -t 1 ] || once=yes
while [ $# -gt 0 ]; do
  case $1 in
    --once) once=yes ;;
    --isolation) isolation=${2:?--isolation needs a level}; shift ;;
    --isolation=*) isolation=${1#*=} ;;
    --no-build) build= ;;
    -h|--help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "quickstart: unknown flag $1; see --help" >&2; exit 2 ;;
  esac
  shift
done
if [ -n "$build" ]; then
  tools/setup.sh
  tools/build.sh release orchestra
fi
root=$PWD
built=${ORCHESTRA_BUILD:-build/release}
orchestra=$root/$built/bin/orchestra
[ -x "$orchestra" ] || { echo "quickstart: $orchestra is not there; run without --no-build" >&2; exit 1; }
examples/quickstart/prepare-images.sh "$built"

# kubectl: the one on PATH, else Debian's, unpacked beside the build.
kubectl=$(command -v kubectl || true)
if [ -z "$kubectl" ]; then
  kubectl=$root/$built/quickstart/kubectl/usr/bin/kubectl
  if [ ! -x "$kubectl" ]; then
    echo "quickstart: no kubectl on PATH; unpacking Debian's kubernetes-client beside the build"
    mkdir -p "$built/quickstart/kubectl"
    (cd "$built/quickstart" && apt-get download -q kubernetes-client >/dev/null 2>&1 && dpkg-deb -x kubernetes-client_*.deb kubectl)
  fi
fi

data=$(mktemp -d "${TMPDIR:-/tmp}/orchestra-quickstart.XXXXXX")
log=$data/orchestra.log
owner=; load=
say() { printf '%s\n' "$*"; }
fail() {
  printf 'FAILED: %s\n' "$*" >&2
  if [ -n "${KUBECONFIG:-}" ]; then
    "$kubectl" get pods,endpoints -n shop -o wide >&2 || true
    "$kubectl" get events -n shop 2>/dev/null | tail -n 12 >&2 || true
  fi
  tail -n 25 "$log" >&2 || true
  exit 1
}
finish() {
  local status=$?
  trap - EXIT INT TERM
  [ -n "$load" ] && kill "$load" 2>/dev/null
  if [ -d "$data" ]; then
    if ! "$orchestra" down --data "$data" >>"$log" 2>&1; then
      echo "FAILED: orchestra down left something behind:" >&2
      tail -n 5 "$log" >&2
      [ -n "$owner" ] && kill -9 "$owner" 2>/dev/null
      status=1
    fi
    [ -n "$owner" ] && wait "$owner" 2>/dev/null
    rm -rf "$data"
  fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

now_ms() { date +%s%3N; }
started=$(now_ms)
"$orchestra" up --data "$data" --listen 127.0.0.1:0 --ingress 127.0.0.1:0 --isolation "$isolation" >"$data/up.out" 2>"$log" &
owner=$!
for _ in $(seq 600); do
  grep -q '^ready in' "$data/up.out" && break
  kill -0 "$owner" 2>/dev/null || fail "orchestra up ended: $(tail -n 3 "$log")"
  read -rt 0.1 <> <(:) || true
done
grep -q '^ready in' "$data/up.out" || fail "orchestra up was not ready within 60 s"
say "cluster   $(grep '^ready in' "$data/up.out"), $(grep -o 'isolation [a-z]*  data' "$data/up.out" | sed 's/  data//'), in one process ($(awk '/VmRSS/ {print int($2/1024)}' "/proc/$owner/status") MiB)"
export KUBECONFIG=$data/admin.kubeconfig HOME=$data
ingress=$(grep -o 'ingress http://[^ ]*' "$data/up.out" | sed 's/.*http/http/')

applied=$(now_ms)
"$kubectl" apply -f examples/quickstart/ >"$data/apply.out" 2>&1 || fail "kubectl apply: $(cat "$data/apply.out")"
say "manifests $(wc -l <"$data/apply.out") objects applied with $(basename "$kubectl") $("$kubectl" version --client 2>/dev/null | grep -o 'v1\.[0-9.]*' | head -1)"
for deployment in redis web; do
  "$kubectl" rollout status -n shop "deployment/$deployment" --timeout=180s >"$data/rollout.out" 2>&1 || fail "deployment $deployment did not become ready: $(tail -n 1 "$data/rollout.out")"
done
say "pods      3 of 3 ready $(( $(now_ms) - applied )) ms after apply: $("$kubectl" get pods -n shop -o 'jsonpath={range .items[*]}{.metadata.name}={.status.podIP} {end}')"

# One request through the ingress, in bash itself: prints the body, fails unless the status is 200.
visit() {
  local address=${ingress#http://} line status body=
  exec 5<>"/dev/tcp/${address%:*}/${address##*:}" || return 1
  printf 'GET /cgi-bin/visit HTTP/1.0\r\nHost: shop.example\r\n\r\n' >&5
  IFS= read -rt 20 status <&5 || { echo "no answer within 20 s" >&2; exec 5>&-; return 1; }
  while IFS= read -rt 20 line <&5 && [ "$line" != $'\r' ]; do :; done
  IFS= read -rt 20 body <&5 || true
  exec 5>&-
  case $status in
    *" 200 "*) printf '%s\n' "$body" ;;
    *) echo "${status%$'\r'}: $body" >&2; return 1 ;;
  esac
}
answer=; for _ in $(seq 150); do answer=$(visit 2>/dev/null) && break; read -rt 0.1 <> <(:) || true; done
case $answer in
  "welcome to the shop version=1 pod=web-"*) say "ingress   $ingress (Host: shop.example) answers: $answer" ;;
  *) fail "the ingress answered \"$answer\"" ;;
esac
say "time      $(( $(now_ms) - started )) ms from nothing to the first answer"
# A pod is ready a moment before the ingress has heard of it.
for _ in $(seq 10); do
  pods=$(for _ in $(seq 20); do visit | grep -o 'pod=[^ ]*'; done | sort | uniq -c | awk '{print $2 " x" $1}' | paste -sd' ') || true
  [ "$(wc -w <<<"$pods")" = 4 ] && break
done
[ "$(wc -w <<<"$pods")" = 4 ] || fail "20 requests reached only: $pods"
say "balance   20 requests: $pods"

pod=$("$kubectl" get pods -n shop -l app=web -o 'jsonpath={.items[0].metadata.name}')
name=$("$kubectl" exec -n shop "$pod" -- nslookup redis.shop.svc.cluster.local 2>&1) || fail "nslookup in $pod: $name"
address=$("$kubectl" get service -n shop redis -o 'jsonpath={.spec.clusterIP}')
grep -q "$address" <<<"$name" || fail "redis.shop.svc.cluster.local did not resolve to $address: $name"
inside=$("$kubectl" exec -n shop "$pod" -- sh -c "printf 'GET /cgi-bin/visit HTTP/1.0\r\nHost: web.shop\r\n\r\n' | nc -w 5 web.shop 80" | tail -n 1) || fail "http://web.shop from $pod: $inside"
grep -q 'version=1 pod=web-' <<<"$inside" || fail "http://web.shop from $pod answered: $inside"
say "dns       in $pod: redis.shop.svc.cluster.local is $address; http://web.shop answers: version=${inside#* version=}"
grep -q 'web version 1 listens' <<<"$("$kubectl" logs -n shop "$pod")" || fail "kubectl logs $pod does not show the start"
say "logs      $pod: $("$kubectl" logs -n shop "$pod" | head -n 1)"

(
  good=0; bad=0
  while [ ! -e "$data/stop-load" ]; do
    if visit >/dev/null 2>>"$data/load.err"; then good=$((good + 1)); else bad=$((bad + 1)); fi
  done
  echo "$good $bad" >"$data/load.out"
) &
load=$!
"$kubectl" set image -n shop deployment/web web=quickstart/web:2 >/dev/null || fail "kubectl set image"
"$kubectl" rollout status -n shop deployment/web --timeout=270s >"$data/rollout.out" 2>&1 || fail "the rollout of version 2 did not end: $(tail -n 1 "$data/rollout.out")"
# Old pods end after the rollout: until twenty answers in a row are the new version's.
new=0; for _ in $(seq 300); do grep -q version=2 <<<"$(visit)" && new=$((new + 1)) || new=0; [ "$new" = 20 ] && break; done
touch "$data/stop-load"; wait "$load"; load=
read -r good bad <"$data/load.out"
[ "$new" = 20 ] || fail "version 2 does not answer, or not alone: $(visit)"
[ "$bad" = 0 ] || fail "$bad of $((good + bad)) requests failed while version 2 was rolled out: $(tail -n 2 "$data/load.err")"
say "rollout   version 2 is live; $good requests during it, $bad failed"

victim=$("$kubectl" get pods -n shop -l app=web --no-headers | awk '$3 == "Running" && !n++ {print $1}')
killed=$(now_ms)
"$kubectl" delete pod -n shop "$victim" --wait=false >/dev/null || fail "kubectl delete pod $victim"
healed=
for _ in $(seq 900); do
  ready=$("$kubectl" get pods -n shop -l app=web --no-headers 2>/dev/null | awk -v v="$victim" '$1 != v && $2 == "1/1" && $3 == "Running" {n++} END {print n + 0}')
  [ "$ready" = 2 ] && { healed=yes; break; }
  read -rt 0.1 <> <(:) || true
done
[ -n "$healed" ] || fail "pod $victim was not replaced within 90 s"
visit >/dev/null || fail "no answer after the pod was killed"
say "healing   $victim was killed; 2 of 2 ready again after $(( $(now_ms) - killed )) ms"
say "next      export KUBECONFIG=$data/admin.kubeconfig; $(basename "$kubectl") get all -n shop"
if [ -n "$once" ]; then
  say "done      everything works; cleaning up"
  exit 0
fi
say "done      it keeps running; Ctrl-C ends it and cleans up"
wait "$owner"
