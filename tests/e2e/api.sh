#!/usr/bin/env bash
# The API server of `orchestra up` from outside and from within: HTTP/2 for curl and kubectl, the key of sealed Secrets
# turned on the command line, and (as root, where pods have a network) a pod that asks the Service `kubernetes`.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
command -v kubectl >/dev/null || { skip "kubectl is not on PATH"; finish; }
if [ "$(id -u)" = 0 ] && [ -z "${INSIDE:-}" ]; then
  examples/quickstart/prepare-images.sh "$built" >/dev/null 2>&1  # here there is a network; asked about below
  exec unshare --net env INSIDE=1 bash -c 'ip link set lo up && exec "$0"' "$PWD/tests/e2e/api.sh"
fi
data=$work/data
export KUBECONFIG=$data/admin.kubeconfig HOME=$work
owner=
stop() { [ -z "$owner" ] || { kill "$owner" 2>/dev/null; end_of "$owner" 2>/dev/null; owner=; }; }
cleanups+=('stop; "$orchestra" down --data "$data" >/dev/null 2>&1')
up() {
  : >"$work/up.out"
  "$orchestra" up --data "$data" --listen 127.0.0.1:0 --ingress 127.0.0.1:0 "$@" >"$work/up.out" 2>"$work/up.err" &
  owner=$!
  wait_for 20 grep -q '^ready in' "$work/up.out" || { cat "$work/up.err"; fail "orchestra up was not ready"; }
}
password() { kubectl get secret s -o 'jsonpath={.data.password}' 2>&1; }

up --no-node
server=$(sed -n 's/^ *server: //p' "$KUBECONFIG")
if command -v curl >/dev/null && curl -V | grep -q HTTP2; then
  [ "$(curl -sk --http2 -o "$work/version" -w '%{http_version}' "$server/version")" = 2 ] && grep -q gitVersion "$work/version" && pass "curl speaks HTTP/2 with the API server" || failed "curl --http2: $(cat "$work/version")"
  [ "$(curl -sk --http1.1 -o "$work/version" -w '%{http_version}' "$server/version")" = 1.1 ] && pass "and HTTP/1.1 when it wants to" || failed "curl --http1.1"
else
  skip "curl with HTTP/2 is not installed"
fi

# Rotation of the key of Secrets: the new one first, restart, reencrypt, the old one away.
kubectl create secret generic s --from-literal=password=hunter22 >/dev/null
config=$data/pki/encryption.yaml
old=$(sed -n 's/.*secret: *//p' "$config" | head -n 1)
[ "$(stat -c %a "$config")" = 600 ] && [ -n "$old" ] && pass "the key of Secrets is in a file that only its owner reads" || failed "$config: $(cat "$config")"
"$orchestra" store reencrypt --data "$data" >"$work/re.out" 2>&1 && pass "reencrypt with the key that is in use: $(cat "$work/re.out")" || failed "reencrypt: $(cat "$work/re.out")"
stop
new=$(head -c 32 /dev/urandom | base64)
keys() {
  printf 'apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n  - aesgcm:\n      keys:\n'
  while [ $# -gt 0 ]; do printf '      - {name: %s, secret: "%s"}\n' "$1" "$2"; shift 2; done
}
old_name=$(sed -n 's/.*name: *\([^ ,}]*\).*/\1/p' "$config" | head -n 1)
keys turned "$new" "$old_name" "$old" >"$work/enc.yaml" && cat "$work/enc.yaml" >"$config"
up --no-node
[ "$(password)" = aHVudGVyMjI= ] && pass "with a new first key, what the old one sealed is read" || failed "after the turn: $(password)"
"$orchestra" store reencrypt --data "$data" >"$work/re.out" 2>&1 && pass "orchestra store reencrypt: $(cat "$work/re.out")" || failed "reencrypt: $(cat "$work/re.out")"
stop
keys turned "$new" >"$work/enc.yaml" && cat "$work/enc.yaml" >"$config"
up --no-node
[ "$(password)" = aHVudGVyMjI= ] && pass "the old key is away and not missed" || failed "without the old key: $(password)"
stop
"$orchestra" store reencrypt --data "$data" >"$work/re.out" 2>&1 && failed "reencrypt without a server said nothing" || { grep -q "orchestra up" "$work/re.out" && pass "without a server reencrypt says what to start" || failed "reencrypt: $(cat "$work/re.out")"; }

[ "$(id -u)" = 0 ] || { skip "a pod that asks the Service kubernetes: needs root"; finish; }
need_images
data=$work/cluster
export KUBECONFIG=$data/admin.kubeconfig
up --node-name n1
command -v curl >/dev/null || { skip "a pod that asks the Service kubernetes: curl is not installed"; finish; }
kubectl apply -f - >/dev/null <<'YAML' || fail "kubectl apply"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: readers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: default, namespace: default}]
---
apiVersion: v1
kind: Pod
metadata: {name: asks}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes: [{name: host, hostPath: {path: /usr}}]
  containers:
  - name: main
    image: quickstart/web:1
    command: [/bin/sh, -c, 'while :; do sleep 1; done']
    volumeMounts: [{name: host, mountPath: /host, readOnly: true}]
YAML
kubectl wait --for=condition=Ready pod/asks --timeout=180s >/dev/null || { kubectl describe pod asks; fail "the pod is not ready"; }
# curl of this machine, run by its own loader: the TLS of busybox knows no signature that servers still make.
ask() {
  kubectl exec asks -- /bin/sh -c "cd /var/run/secrets/kubernetes.io/serviceaccount && /host/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 \
    --library-path /host/lib/x86_64-linux-gnu /host/bin/curl -s --cacert ca.crt -H \"Authorization: Bearer \$(cat token)\" -w ' %{http_version} %{http_code}' https://$1" 2>&1
}
# The name, the way there and what the account may all come to where they are asked, each at its own time.
version() { ask kubernetes.default.svc/version | tr -d '\n' | matches 'gitVersion.* 2 200$'; }
wait_for 20 version && pass "a pod reads https://kubernetes.default.svc/version, with the authority that it was given" || failed "version: $(ask kubernetes.default.svc/version)"
own='$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/default/pods/asks'
own_pod() { ask "$own" | matches '"name":"asks"'; }
wait_for 20 own_pod && pass "and, with its token and the address of its environment, its own object" || failed "own pod: $(ask "$own")"
ask kubernetes.default.svc/api/v1/secrets | matches ' 403$' && pass "and no more than its account may" || failed "secrets: $(ask kubernetes.default.svc/api/v1/secrets)"
finish
