#!/usr/bin/env bash
# `orchestra-oci --systemd-cgroup` with a real systemd: Debian's, started as pid 1 of namespaces of its own, once with
# cgroup v2 alone and once as on hybrid machines. It sees units of this test only.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
need_root
[ -x /lib/systemd/systemd ] || { skip "the Debian package systemd is not installed"; finish; }
[ -x /bin/busybox ] || { skip "the Debian package busybox-static is not installed"; finish; }
grep -qE ' cgroup2 ' /proc/self/mountinfo || { skip "no cgroup v2 hierarchy is mounted"; finish; }
oci=$PWD/$built/bin/orchestra-oci
group=orchestra-systemd-$$
unified=$(awk '/ - cgroup2 /{print $5; exit}' /proc/self/mountinfo)
v1=$(awk '/ - cgroup /{n=split($NF, o, ","); names=""; for (i = 1; i <= n; i++) if (o[i] !~ /^(rw|ro|xattr|release_agent=.*)$/) names = names (names == "" ? "" : ",") o[i]; print $5 "=" names}' /proc/self/mountinfo)

bundle=$work/bundle
mkdir -p "$bundle/rootfs/bin" "$bundle/rootfs/proc" "$bundle/rootfs/dev" "$bundle/rootfs/sys"
cp /bin/busybox "$bundle/rootfs/bin/"
for name in sh sleep cat; do ln -s busybox "$bundle/rootfs/bin/$name"; done
# config CGROUPS_PATH PROGRAM [RESOURCES]
config() {
  cat >"$bundle/config.json" <<JSON
{"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": $2, "env": ["PATH=/bin"]},
 "annotations": {"org.systemd.property.TimeoutStopUSec": "uint64 7000000"},
 "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
 "linux": {"cgroupsPath": "$1", "resources": ${3:-{\}}, "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]}}
JSON
}
gone() { ! kill -0 "$1" 2>/dev/null; }

# boot MODE: starts systemd; $manager is its pid here.
boot() {
  local mode=$1 path
  (
    for path in $unified $([ "$mode" = hybrid ] && sed 's/=.*//' <<<"$v1"); do
      mkdir "$path/$group" || exit 1
      if [ "$path" != "$unified" ] && [ -e "$path/cpuset.cpus" ]; then
        for file in cpuset.cpus cpuset.mems; do cat "$path/$file" >"$path/$group/$file"; done
      fi
      echo "$BASHPID" >"$path/$group/cgroup.procs" || exit 1
    done
    exec unshare --fork --pid --mount --uts --ipc --net --cgroup --kill-child bash -c '
      mode=$1 v1=$2 unified=$3
      mount --make-rprivate / && mount -t proc proc /proc || exit 1
      umount -R /sys/fs/cgroup
      if [ "$mode" = unified ]; then
        mount -t cgroup2 cgroup /sys/fs/cgroup || exit 1
      else
        mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
        for line in $v1; do
          mkdir -p "${line%%=*}"
          options=${line#*=}
          [[ $options == name=* ]] && options=none,$options
          mount -t cgroup -o "$options" cgroup "${line%%=*}" || exit 1
        done
        mkdir -p "$unified" && mount -t cgroup2 cgroup "$unified" || exit 1
      fi
      # Nothing of this machine is started: units and generators are hidden, one empty target is all there is.
      for folder in /run /etc/systemd /lib/systemd/system /lib/systemd/system-generators; do mount -t tmpfs none $folder; done
      printf "[Unit]\nDescription=test\nDefaultDependencies=no\n" >/lib/systemd/system/orc-test.target
      exec env -i PATH="$PATH" container=orc SYSTEMD_LOG_TARGET=console /lib/systemd/systemd --system --unit=orc-test.target
    ' systemd "$mode" "$v1" "$unified"
  ) >"$work/systemd-$mode.log" 2>&1 </dev/null &
  outer=$!
  booted() { manager=$(ps -o pid= --ppid "$outer" | head -n 1 | tr -d ' '); [ -n "$manager" ] && inside test -S /run/systemd/private; }
  wait_for 30 booted || { failed "$mode: systemd did not start: $(tail -n 3 "$work/systemd-$mode.log" | tr '\n' ' ')"; return 1; }
  pass "$mode: systemd $(inside systemctl show -p Version --value) is pid 1 of its namespaces"
}
halt() {
  [ -n "${outer:-}" ] || return 0
  kill -9 "$manager" "$outer" 2>/dev/null
  wait "$outer" 2>/dev/null
  outer=
  local path
  for path in $unified $(sed 's/=.*//' <<<"$v1"); do
    [ -d "$path/$group" ] || continue
    cleared() { find "$path/$group" -depth -type d -exec rmdir {} + 2>/dev/null; [ ! -d "$path/$group" ]; }
    wait_for 10 cleared || failed "cgroup $path/$group stays"
  done
}
cleanups+=(halt)
inside() { nsenter -t "$manager" -a -w"$bundle" "$@"; }
orc() { inside "$oci" --root /run/oci --systemd-cgroup "$@"; }
show() { inside systemctl show -p "$2" --value "$1"; }

unit=orc-web.scope
for mode in unified hybrid; do
  [ "$mode" = unified ] || [ -n "$v1" ] || { skip "hybrid: no cgroup v1 hierarchy on this machine"; continue; }
  outer=; boot "$mode" || continue
  limits='{"pids": {"limit": 32}}'; [ "$mode" = hybrid ] && limits='{"pids": {"limit": 32}, "memory": {"limit": 33554432}}'
  [ "$mode" = unified ] && limits='{}'
  config machine.slice:orc:web '["sleep", "1000"]' "$limits"
  if orc create -b "$bundle" --pid-file /run/web.pid web >"$work/out" 2>&1; then
    pass "$mode: create"
  else
    failed "$mode: create: $(cat "$work/out")"; halt; continue
  fi
  [ "$(show $unit ActiveState)" = active ] && pass "$mode: the scope is active" || failed "$mode: $unit is $(show $unit ActiveState)"
  [ "$(show $unit Slice)" = machine.slice ] && [ "$(show $unit Delegate)" = yes ] && [ "$(show $unit TimeoutStopUSec)" = 7s ] &&
    pass "$mode: slice, delegation and the property of the annotation" || failed "$mode: $(show $unit Slice) $(show $unit Delegate) $(show $unit TimeoutStopUSec)"
  pid=$(inside cat /run/web.pid)
  tree=$([ "$mode" = unified ] && echo "0::" || echo "[0-9]*:\(name=systemd\|memory\|pids\|\):")
  expected=$([ "$mode" = unified ] && echo 1 || echo 4)
  [ "$(inside grep -c "^$tree/machine.slice/$unit\$" "/proc/$pid/cgroup")" = "$expected" ] && pass "$mode: init was born in it" || failed "$mode: $(inside cat "/proc/$pid/cgroup" | tr '\n' ' ')"
  [ "$(inside systemctl show -p ControlGroup --value $unit)" = "/machine.slice/$unit" ] && [ "$(inside systemd-cgls -u $unit 2>/dev/null | grep -c sleep)" -le 1 ] || failed "$mode: group of the unit"
  orc start web && pass "$mode: start" || failed "$mode: start"
  if orc exec web cat /proc/self/cgroup >"$work/out" 2>&1 && grep -q "/machine.slice/$unit\$" "$work/out"; then
    pass "$mode: exec joins the scope"
  else
    failed "$mode: exec: $(tr '\n' ' ' <"$work/out")"
  fi
  if [ "$mode" = hybrid ]; then
    memory=$(grep -oE '^[^ =]*/memory' <<<"$v1" | head -n 1)
    [ "$(inside cat "$memory/machine.slice/$unit/memory.limit_in_bytes")" = 33554432 ] && [ "$(show $unit MemoryLimit)" = 33554432 ] &&
      pass "$mode: the memory limit is the kernel's and the unit's" || failed "$mode: memory limit $(show $unit MemoryLimit)"
    orc update --pids-limit 17 web && [ "$(show $unit TasksMax)" = 17 ] && pass "$mode: update reaches the unit" || failed "$mode: TasksMax is $(show $unit TasksMax)"
    inside systemctl daemon-reload
    pids=$(grep -oE '^[^ =]*/pids' <<<"$v1" | head -n 1)
    [ "$(inside cat "$pids/machine.slice/$unit/pids.max")" = 17 ] && pass "$mode: and stays over daemon-reload" || failed "$mode: pids.max after daemon-reload"
  fi
  cp "$bundle/config.json" "$work/config.json"
  config machine.slice:orc:web '["sleep", "1000"]'
  orc create -b "$bundle" twin >"$work/out" 2>&1 && failed "$mode: a second container in one scope" || { grep -q "systemd has a unit $unit already" "$work/out" && pass "$mode: a name in use is refused" || failed "$mode: $(cat "$work/out")"; }
  config machine.slice:orc:broken '["/no/such/program"]'
  orc create -b "$bundle" broken >"$work/out" 2>&1 && failed "$mode: a missing program" || { wait_for 5 eval '[ "$(show orc-broken.scope LoadState)" = not-found ]' && pass "$mode: a create that fails leaves no unit" || failed "$mode: orc-broken.scope: $(show orc-broken.scope ActiveState)"; }
  config /plain/path '["sleep", "1"]'
  orc create -b "$bundle" plain >"$work/out" 2>&1; grep -q 'linux.cgroupsPath "/plain/path": it has not three parts' "$work/out" && pass "$mode: a path of another form is named" || failed "$mode: $(cat "$work/out")"
  cp "$work/config.json" "$bundle/config.json"
  orc kill web KILL && wait_for 10 eval 'orc state web | matches stopped' && orc delete web >"$work/out" 2>&1 && pass "$mode: kill and delete" || failed "$mode: kill and delete: $(cat "$work/out")"
  wait_for 10 eval '[ "$(show $unit LoadState)" = not-found ]' && pass "$mode: the unit is gone" || failed "$mode: $unit is $(show $unit ActiveState) after delete"
  # systemd stops it: the container is stopped, and delete is still fine.
  orc run -b "$bundle" --detach web >"$work/out" 2>&1 </dev/null && inside systemctl stop $unit && wait_for 10 eval 'orc state web | matches stopped' && orc delete web && pass "$mode: systemctl stop ends the container" ||
    failed "$mode: systemctl stop: $(cat "$work/out")"
  halt
done
# No systemd: one sentence that says what to do.
config machine.slice:orc:web '["sleep", "1000"]'
if [ ! -S /run/systemd/private ] && [ ! -S /run/dbus/system_bus_socket ]; then
  "$oci" --root "$work/oci" --systemd-cgroup create -b "$bundle" web >"$work/out" 2>&1
  grep -q 'no systemd answers .*use --cgroup-manager cgroupfs' "$work/out" && [ ! -e "$work/oci/web" ] && pass "without systemd: the reason and the remedy" || failed "without systemd: $(cat "$work/out")"
fi
finish
