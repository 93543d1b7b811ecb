#!/usr/bin/env bash
# Other people's tools drive orchestra-oci as their runtime: podman (conmon) and containerd (its runc-v2 shim).
# Each has folders of its own and no network. A peer that is not installed is a skip with its name.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
need_root
runtime=$PWD/$built/bin/orchestra-oci
[ -x /bin/busybox ] || { skip "needs the Debian package busybox-static"; finish; }
root=$work/rootfs
mkdir -p "$root"/{bin,etc,tmp,proc,dev,sys}
cp /bin/busybox "$root/bin/"
for name in sh echo sleep cat id ls kill true hostname env; do ln -s busybox "$root/bin/$name"; done
echo 'root:x:0:0::/:/bin/sh' >"$root/etc/passwd"

podman_cases() {
  command -v podman >/dev/null && command -v conmon >/dev/null || { skip "podman: needs the Debian packages podman and conmon"; return; }
  local p=(timeout 180 podman --root "$work/podman/root" --runroot "$work/podman/run" --tmpdir "$work/podman/tmp" --runtime "$runtime" --cgroup-manager cgroupfs --storage-driver vfs --events-backend none) out status
  local run=("${p[@]}" run --network none --cgroups enabled --ulimit nofile=1024:1024 --ulimit nproc=4096:4096)
  cleanups+=("podman --root $work/podman/root --runroot $work/podman/run --tmpdir $work/podman/tmp --runtime $runtime --cgroup-manager cgroupfs --storage-driver vfs --events-backend none rm -fa >/dev/null 2>&1; umount -q $work/podman/root/vfs $work/podman/root 2>/dev/null")
  out=$("${run[@]}" --rm --rootfs "$root" echo from podman 2>&1)
  [ "$out" = "from podman" ] && pass "podman run --rm prints what the program prints" || { failed "podman run: $out"; return; }
  "${run[@]}" --rm --rootfs "$root" sh -c 'exit 42' >/dev/null 2>&1; status=$?
  [ $status = 42 ] && pass "podman run ends with the program's status" || failed "podman status: $status"
  out=$("${run[@]}" --rm --memory 32m --pids-limit 50 --rootfs "$root" sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; echo limited' 2>&1)
  grep -q limited <<<"$out" && pass "podman run with limits" || failed "podman run with limits: $out"
  out=$("${run[@]}" --rm --rootfs "$root" /bin/nothing 2>&1); status=$?
  [ $status = 127 ] && pass "podman: a missing program is status 127" || failed "podman missing program: $status $out"
  out=$("${run[@]}" -d --name long --rootfs "$root" sleep 1000 2>&1) || { failed "podman run -d: $out"; return; }
  out=$("${p[@]}" exec long sh -c 'echo in $(cat /proc/1/comm); exit 3' 2>&1); status=$?
  [ "$out" = "in sleep" ] && [ $status = 3 ] && pass "podman exec" || failed "podman exec: $status $out"
  out=$("${p[@]}" exec -t long sh -c 'test -t 1 && echo tty' 2>&1)
  grep -q tty <<<"$out" && pass "podman exec -t has a terminal" || failed "podman exec -t: $out"
  out=$("${p[@]}" pause long 2>&1 && "${p[@]}" unpause long 2>&1) && pass "podman pause, unpause" || failed "podman pause: $out"
  "${p[@]}" stop -t 1 long >/dev/null 2>&1
  [ "$("${p[@]}" inspect -f '{{.State.Status}} {{.State.ExitCode}}' long 2>&1)" = "exited 137" ] && pass "podman stop: killed after its second, code 137" || failed "podman stop: $("${p[@]}" inspect -f '{{.State.Status}} {{.State.ExitCode}}' long 2>&1)"
  out=$("${p[@]}" rm long 2>&1) && [ -z "$("${p[@]}" ps -aq 2>/dev/null)" ] && pass "podman rm" || failed "podman rm: $out"
}

containerd_cases() {
  command -v containerd >/dev/null && command -v ctr >/dev/null || { skip "containerd: needs the Debian package containerd"; return; }
  local daemon out status
  mkdir -p "$work/containerd"
  cat >"$work/containerd/config.toml" <<X
version = 2
root = "$work/containerd/root"
state = "$work/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$work/containerd/c.sock"
[ttrpc]
  address = "$work/containerd/t.sock"
X
  containerd --config "$work/containerd/config.toml" >"$work/containerd/log" 2>&1 &
  daemon=$!
  cleanups+=("kill $daemon 2>/dev/null; wait $daemon 2>/dev/null")
  local c=(timeout 180 ctr --address "$work/containerd/c.sock" --namespace orctest)
  wait_for 20 "${c[@]}" version || { tail -n 5 "$work/containerd/log"; skip "containerd: the daemon does not start here"; return; }
  "${c[@]}" events >"$work/containerd/events" 2>&1 &
  local events=$!
  cleanups+=("kill $events 2>/dev/null")
  local run=("${c[@]}" run --runc-binary "$runtime" --rootfs)
  out=$("${run[@]}" --rm "$root" one /bin/echo from containerd 2>&1)
  [ "$out" = "from containerd" ] && pass "ctr run prints what the program prints" || { tail -n 5 "$work/containerd/log"; failed "ctr run: $out"; return; }
  "${run[@]}" --rm "$root" two /bin/sh -c 'exit 42' >/dev/null 2>&1; status=$?
  [ $status = 42 ] && pass "ctr run ends with the program's status" || failed "ctr status: $status"
  out=$("${run[@]}" -d "$root" long /bin/sleep 1000 2>&1) || { failed "ctr run -d: $out"; return; }
  out=$("${c[@]}" tasks exec --exec-id e1 long /bin/sh -c 'echo in $(cat /proc/1/comm); exit 3' 2>&1); status=$?
  [ "$out" = "in sleep" ] && [ $status = 3 ] && pass "ctr tasks exec" || failed "ctr exec: $status $out"
  out=$("${c[@]}" tasks pause long 2>&1 && "${c[@]}" tasks ls 2>&1 | grep long) && grep -q PAUSED <<<"$out" && "${c[@]}" tasks resume long && pass "ctr tasks pause, resume" || failed "ctr pause: $out"
  "${c[@]}" tasks metrics long >"$work/containerd/metrics" 2>&1 && pass "ctr tasks metrics" || failed "ctr metrics: $(head -c 300 "$work/containerd/metrics")"
  "${c[@]}" tasks kill --signal SIGKILL long >/dev/null 2>&1
  wait_for 10 bash -c "${c[*]} tasks ls | grep long | matches STOPPED" && pass "ctr tasks kill" || failed "ctr kill: $("${c[@]}" tasks ls 2>&1)"
  out=$("${c[@]}" tasks rm long 2>&1; "${c[@]}" containers rm long 2>&1)
  [ -z "$("${c[@]}" containers ls -q 2>/dev/null)" ] && pass "ctr rm" || failed "ctr rm: $out"
  for topic in /tasks/create /tasks/start /tasks/exec-started /tasks/exit /tasks/delete; do
    wait_for 10 grep -q "$topic" "$work/containerd/events" || { failed "ctr events: no $topic"; return; }
  done
  pass "ctr events: create, start, exec-started, exit, delete"
}
podman_cases
containerd_cases
# podman names no root to the runtime: its own is made by the first container; after the last it holds only the cache of
# compiled filters.
cleanups+=("rm -rf /run/orchestra/oci/.seccomp; rmdir /run/orchestra/oci /run/orchestra 2>/dev/null")
finish
