#!/usr/bin/env bash
# What goes wrong around a cluster: a full disk, an image for another machine, an image that is nowhere, broken
# manifests. Each gets a sentence that names the thing, nothing is lost, and work goes on when the cause is gone.
# beside: policy
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
need_root
need_images
command -v kubectl >/dev/null || { skip "kubectl is not on PATH"; finish; }
command -v python3 >/dev/null || { skip "python3 is not installed"; finish; }
in_own_network --mount
disk=$work/disk data=$work/disk/data
mkdir "$disk" && mount -t tmpfs -o size=256m orc-test-disk "$disk" || fail "mount of a small tmpfs"
export KUBECONFIG=$data/admin.kubeconfig HOME=$work
owner=
cleanups+=('[ -n "$owner" ] && kill -9 "$owner" 2>/dev/null; "$orchestra" down --data "$data" >/dev/null 2>&1; umount "$disk"')
listen=127.0.0.1:0
up() {
  : >"$work/up.out"
  "$orchestra" up --data "$data" --listen "$listen" --ingress 127.0.0.1:0 >"$work/up.out" 2>>"$work/up.err" &
  owner=$!
  wait_for 20 grep -q '^ready in' "$work/up.out" || { tail -n 5 "$work/up.err"; fail "orchestra up was not ready"; }
}
names() { kubectl get configmaps -o 'jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}' | grep '^big' | sort; }

# An image whose configuration says arm64, as docker save would write it.
python3 - "$work/arm.tar" <<'PYTHON'
import hashlib, io, json, sys, tarfile
layer = io.BytesIO()
tarfile.open(fileobj=layer, mode="w").close()
layer = layer.getvalue()
config = json.dumps({"architecture": "arm64", "os": "linux", "config": {"Cmd": ["/true"]},
                     "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}).encode()
manifest = json.dumps([{"Config": "c.json", "RepoTags": ["example/arm:1"], "Layers": ["l.tar"]}]).encode()
with tarfile.open(sys.argv[1], "w") as out:
    for name, data in (("c.json", config), ("l.tar", layer), ("manifest.json", manifest)):
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        out.addfile(entry, io.BytesIO(data))
PYTHON

up
out=$("$orchestra" image import --data "$data" "$work/arm.tar" 2>&1); [ $? != 0 ] && grep -q 'linux/arm64' <<<"$out" && grep -q "no image for linux/" <<<"$out" && pass "an image for another machine is refused with both names" || failed "image of another architecture: $out"
kubectl run nowhere --image=127.0.0.1:1/nothing:1 --restart=Never >/dev/null
event_of() { kubectl get events --field-selector "involvedObject.name=$1,type=Warning" -o 'jsonpath={.items[*].message}'; }
waiting_of() { kubectl get pod "$1" -o 'jsonpath={.status.containerStatuses[0].state.waiting.reason}'; }
told() { waiting_of nowhere | matches 'ErrImagePull\|ImagePullBackOff' && event_of nowhere | matches '127.0.0.1:1'; }
wait_for 20 told &&
  pass "an image that is nowhere: $(waiting_of nowhere), its event names the registry" || failed "missing image: $(event_of nowhere)"
kubectl delete pod nowhere --force --grace-period=0 >/dev/null 2>&1

out=$(printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, labels: [1]}\n' | kubectl create --validate=false -f - 2>&1); [ $? != 0 ] && grep -q 'labels' <<<"$out" && pass "a wrong type names the field" || failed "wrong type: $out"
out=$(printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: b}\nfoo: 1\n' | kubectl create -f - 2>&1); [ $? != 0 ] && grep -q 'unknown field "foo"' <<<"$out" && pass "an unknown field is refused by name" || failed "unknown field: $out"

# The disk fills up.
head -c 900000 /dev/zero | tr '\0' 'x' >"$work/big"
dd if=/dev/zero of="$disk/fill" bs=1M >/dev/null 2>&1
count=0; said=
while [ "$count" -lt 120 ]; do
  if out=$(timeout 120 kubectl create configmap "big-$count" --from-file="$work/big" 2>&1); then echo "big-$count" >>"$work/acknowledged"; else said=$out; break; fi
  count=$((count + 1))
done
grep -q 'no space' <<<"$said" && grep -q "$data/store" <<<"$said" && pass "a full disk, after $count writes: $(cut -c1-140 <<<"$said")" || failed "full disk: $said"
[ "$(names)" = "$(sort "$work/acknowledged")" ] && pass "reads go on, and what was acknowledged is there" || failed "on the full disk: $(names | wc -l) of $(wc -l <"$work/acknowledged") objects"
kubectl delete configmap big-0 >/dev/null 2>&1 && sed -i '/^big-0$/d' "$work/acknowledged" && pass "deleting still works" || failed "kubectl delete on a full disk"
listen=$(grep -o 'api https://[^ ]*' "$work/up.out" | sed 's/.*https:..//')
kill -9 "$owner"; wait "$owner" 2>/dev/null
up
[ "$(names)" = "$(sort "$work/acknowledged")" ] && pass "kill -9 and a start on the full disk: everything acknowledged is there" || failed "after the restart: $(names | wc -l) of $(wc -l <"$work/acknowledged") objects"
rm "$disk/fill"
wait_for 20 kubectl create configmap after --from-literal=a=b && pass "with space again, writes work without a restart" || failed "writes after space was freed: $(kubectl create configmap after2 --from-literal=a=b 2>&1)"
"$orchestra" down --data "$data" >"$work/down.log" 2>&1 && pass "orchestra down" || { cat "$work/down.log"; failed "orchestra down"; }
end_of "$owner" 2>/dev/null; owner=

# A machine without cgroups: pods run, and what they ask for in vain is said at the start, on the Node and on the pod.
# (In a mount namespace of its own; the rest of /sys is as it was.)
data=$disk/bare listen=127.0.0.1:0
export KUBECONFIG=$data/admin.kubeconfig
: >"$work/up.out"
unshare --mount bash -c 'while umount -l /sys/fs/cgroup 2>/dev/null; do :; done; mount -t tmpfs orc-test-bare /sys/fs/cgroup && exec "$@"' bare \
  "$orchestra" up --data "$data" --isolation full --listen "$listen" --ingress 127.0.0.1:0 >"$work/up.out" 2>>"$work/up.err" &
owner=$!
wait_for 20 grep -q '^ready in' "$work/up.out" || { tail -n 5 "$work/up.err"; fail "orchestra up without cgroups was not ready"; }
grep -q 'degraded: memory limits: no hierarchy' "$work/up.out" "$work/up.err" && pass "without cgroups: $(grep -ho 'degraded: memory.*' "$work/up.out" "$work/up.err" | head -n 1)" || failed "nothing said of missing cgroups: $(cat "$work/up.out")"
condition() { kubectl get nodes -o 'jsonpath={.items[0].status.conditions[?(@.type=="orchestra.dev/Degraded")].message}' | matches 'memory limits'; }
wait_for 20 condition && pass "the Node's condition says so" || failed "conditions: $(kubectl get nodes -o 'jsonpath={.items[0].status.conditions}')"
kubectl run greedy --image=quickstart/web:1 --overrides='{"spec":{"containers":[{"name":"greedy","image":"quickstart/web:1","resources":{"limits":{"memory":"20Mi"}}}]}}' >/dev/null
wait_for 20 bash -c 'kubectl get events --field-selector involvedObject.name=greedy,reason=NotEnforced -o "jsonpath={.items[*].message}" | matches memory' && pass "so does an event of a pod with limits" || failed "events: $(kubectl get events --field-selector involvedObject.name=greedy)"
"$orchestra" down --data "$data" >"$work/down.log" 2>&1 || { cat "$work/down.log"; failed "orchestra down without cgroups"; }
end_of "$owner" 2>/dev/null; owner=

# Ranges of addresses mean nothing where pods have no network of their own.
data=$disk/process
: >"$work/up.out"
"$orchestra" up --data "$data" --isolation process --pod-cidr 10.9.0.0/16 --listen 127.0.0.1:0 --ingress 127.0.0.1:0 >"$work/up.out" 2>>"$work/up.err" &
owner=$!
wait_for 20 grep -q '^ready in' "$work/up.out" || { tail -n 5 "$work/up.err"; fail "orchestra up at level process was not ready"; }
grep -q 'degraded: --pod-cidr 10.9.0.0/16 is not used' "$work/up.out" "$work/up.err" && pass "a range that cannot be used is named" || failed "nothing said of --pod-cidr: $(cat "$work/up.out")"
"$orchestra" down --data "$data" >"$work/down.log" 2>&1 || { cat "$work/down.log"; failed "orchestra down at level process"; }
end_of "$owner" 2>/dev/null; owner=
finish
