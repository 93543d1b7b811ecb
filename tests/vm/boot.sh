#!/usr/bin/env bash
# Boots Debian's cloud kernel in qemu and runs the runtime's tests there: tests/vm/boot.sh v2|v1|hybrid [SECONDS]
# Prints the guest's TAP lines; ends with 77 and a named reason where qemu or the kernel's package is missing. The
# kernel is unpacked into build/vm, never installed (its scripts would rebuild boot files of this machine).
set -uo pipefail
cd "$(dirname "$0")/../.."
mode=${1:-v2} seconds=${2:-180}
built=${ORCHESTRA_BUILD:-build/release}
cache=${ORCHESTRA_VM_CACHE:-build/vm}
missing() { echo "SKIP vm $mode: $*"; exit 77; }
command -v qemu-system-x86_64 >/dev/null || missing "needs the Debian package qemu-system-x86"
[ "$(uname -m)" = x86_64 ] || missing "the guest is x86_64"
[ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 || missing "needs the Debian package busybox-static"
mkdir -p "$cache" && cache=$(cd "$cache" && pwd)
fetch_kernel() {
  local package folder=$cache/fetch
  package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image/ {print $2; exit}')
  [ -n "$package" ] || return 1
  rm -rf "$folder" && mkdir -p "$folder"
  (cd "$folder" && apt-get download -q "$package" >/dev/null 2>&1) || return 1
  dpkg-deb -x "$folder"/*.deb "$folder/root" || return 1
  rm -rf "$cache/kernel" && mv "$folder/root" "$cache/kernel" && rm -rf "$folder"
}
exec 8>"$cache/lock" && flock 8
kernel=$(ls "$cache"/kernel/boot/vmlinuz-* 2>/dev/null | head -1)
if [ -z "$kernel" ]; then
  fetch_kernel || missing "the package linux-image-*-cloud-amd64 cannot be fetched"
  kernel=$(ls "$cache"/kernel/boot/vmlinuz-*)
fi
flock -u 8
work=$(mktemp -d "${TMPDIR:-/tmp}/orc-test-vm.XXXXXX")
qemu=
trap '[ -n "$qemu" ] && kill "$qemu" 2>/dev/null; rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,usr/bin,lib64,lib,etc,tests,modules}
cp /bin/busybox "$root/bin/busybox" && ln -s busybox "$root/bin/sh"
cp "$(command -v setpriv)" "$root/usr/bin/setpriv"
cp "$built/bin/test_runtime" "$root/tests/"
strip "$root/tests/test_runtime"
for program in "$built/bin/test_runtime" "$(command -v setpriv)"; do ldd "$program"; done | awk '/=> \// {print $3}' | sort -u | xargs -r cp -Lt "$root/lib/"
cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
find "$cache/kernel/lib/modules" -name overlay.ko -exec cp {} "$root/modules/" \;
printf 'root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nuser:x:1000:\n' >"$root/etc/group"
cp tests/vm/init "$root/init" && chmod 755 "$root/init"
grep -v "^#" "${ORCHESTRA_VM_CASES:-tests/vm/root-cases}" | paste -sd, >"$root/tests/root-cases"
(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initrd"
# boot ACCELERATOR SECONDS: 0 once the guest has ended. One that says nothing in its first SECONDS counts as dead.
boot() {
  local end=$(( $(date +%s) + seconds )) first=$(( $(date +%s) + $2 ))
  : >"$work/serial"
  qemu-system-x86_64 -accel "$1" -cpu max -smp 2 -m 1536 -nographic -no-reboot -nic none -monitor none \
    -kernel "$kernel" -initrd "$work/initrd" -append "console=ttyS0 panic=-1 quiet orc.cgroup=$mode" \
    -serial "file:$work/serial" </dev/null >"$work/qemu.log" 2>&1 &
  qemu=$!
  while kill -0 "$qemu" 2>/dev/null; do
    if [ "$(date +%s)" -ge "$end" ]; then over=yes; break; fi
    if [ "$(date +%s)" -ge "$first" ] && ! grep -q '# guest:' "$work/serial"; then break; fi
    read -rt 0.2 <> <(:)
  done
  kill "$qemu" 2>/dev/null; wait "$qemu" 2>/dev/null; qemu=
  grep -q '# guest:' "$work/serial"
}
over=
# A machine that is a guest itself may show /dev/kvm and then never run a line of it: emulation is the way back. With one
# thread for both processors: with a thread for each it now and then stops before the first line of the guest.
{ (exec 7<>/dev/kvm) 2>/dev/null && boot kvm 10; } || boot tcg,thread=single 150 || boot tcg,thread=multi 60
tr -d '\r' <"$work/serial" | grep -E '^(ok |not ok |# )' || { cat "$work/qemu.log"; tail -n 30 "$work/serial"; echo "not ok - the guest said something"; }
[ -n "$over" ] && { tail -n 20 "$work/serial"; echo "not ok - the guest ended within $seconds s"; }
grep -q '# guest: done' "$work/serial" || echo "not ok - the guest came to its end"
exit 0
