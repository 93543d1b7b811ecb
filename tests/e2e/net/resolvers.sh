#!/usr/bin/env bash
# The resolvers that programs in pods bring along, glibc, musl and c-ares, beside dig and drill: with a pod's resolv.conf
# (search list, ndots:5) all find the same addresses.
set -uo pipefail
cd "$(dirname "$0")/../../.."
source tests/e2e/lib.sh
need_root
command -v cc >/dev/null || { skip "cc is not on PATH"; finish; }
peers=$PWD/build/peers/dns
export PATH=$PATH:$peers/bin
# Port 53 and an /etc/resolv.conf of our own.
[ -n "${INSIDE:-}" ] || exec unshare --net --mount --propagation private env INSIDE=1 bash -c 'ip link set lo up && exec "$0"' "$PWD/tests/e2e/net/resolvers.sh"
printf 'nameserver 127.0.0.1\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n' >"$work/resolv.conf"
mount --bind "$work/resolv.conf" /etc/resolv.conf || { skip "resolv.conf cannot be covered"; finish; }
printf 'hosts: dns\n' >"$work/nsswitch.conf"; mount --bind "$work/nsswitch.conf" /etc/nsswitch.conf 2>/dev/null
{
  printf '$TTL 5\n@ SOA ns.dns hostmaster 1 7200 1800 86400 5\nweb.shop.svc A 10.96.0.10\nother.bank.svc A 10.96.0.11\nalias.shop.svc CNAME web.shop.svc\n'
  for i in $(seq 20); do echo "many.shop.svc A 10.244.1.$i"; done
} >"$work/cluster.zone"
printf '$TTL 60\n@ SOA ns host 1 2 3 4 5\nwww A 192.0.2.80\n' >"$work/outside.zone"
"$orchestra" dns --listen 127.0.0.1:53 --zone-file cluster.local="$work/cluster.zone" --zone-file outside.example="$work/outside.zone" >"$work/dns.out" 2>&1 & server=$!
cleanups+=('kill $server 2>/dev/null; wait 2>/dev/null; umount /etc/resolv.conf /etc/nsswitch.conf 2>/dev/null')
wait_for 10 grep -q '^ready in' "$work/dns.out" || fail "orchestra dns: $(cat "$work/dns.out")"
names="web web.shop other.bank web.shop.svc.cluster.local alias many www.outside.example nobody nobody.outside.example"
many=$(for i in $(seq 20); do echo "10.244.1.$i"; done | LC_ALL=C sort | tr '\n' ' ')
{
  echo "web: 10.96.0.10"; echo "web.shop: 10.96.0.10"; echo "other.bank: 10.96.0.11"; echo "web.shop.svc.cluster.local: 10.96.0.10"
  echo "alias: 10.96.0.10"; echo "many: ${many% }"; echo "www.outside.example: 192.0.2.80"; echo "nobody:"; echo "nobody.outside.example:"
} >"$work/expected"
same() { # NAME FILE
  diff "$work/expected" "$2" >"$work/diff" && pass "$1 finds what it should" || failed "$1: $(cat "$work/diff")"
}
source=tests/e2e/net/resolvers.c
cc -o "$work/glibc" $source && "$work/glibc" $names >"$work/glibc.out"; same "glibc" "$work/glibc.out"
library=$(ls "$peers"/usr/lib/x86_64-linux-gnu/libcares.so.2 2>/dev/null)
if [ -n "$library" ]; then
  cc -DCARES -o "$work/cares" $source "$library" && LD_LIBRARY_PATH=$(dirname "$library") "$work/cares" $names >"$work/cares.out"; same "c-ares" "$work/cares.out"
else
  skip "c-ares: the Debian package libc-ares2 is not there (tools/fetch-peers.sh)"
fi
musl=$peers/usr/lib/x86_64-linux-musl
if [ -e "$musl/libc.a" ]; then
  cc -static -nostdinc -isystem "$peers/usr/include/x86_64-linux-musl" -nostdlib -fno-stack-protector -o "$work/musl" "$musl/crt1.o" "$musl/crti.o" $source "$musl/libc.a" "$(cc -print-libgcc-file-name)" "$musl/crtn.o" && "$work/musl" $names >"$work/musl.out"; same "musl" "$work/musl.out"
else
  skip "musl: the Debian package musl-dev is not there (tools/fetch-peers.sh)"
fi
for tool in dig drill; do
  command -v $tool >/dev/null || { skip "$tool: not installed (tools/fetch-peers.sh)"; continue; }
  for name in $names; do
    # They walk no search list in the same way: full names.
    full=$name
    case $name in web | alias | many | nobody) full=$name.shop.svc.cluster.local ;; web.shop | other.bank) full=$name.svc.cluster.local ;; esac
    case $tool in
      dig) said=$(dig +short "$full" A @127.0.0.1) ;;
      drill) said=$(drill "$full" @127.0.0.1 A | awk '$4 == "A" && !/^;/ {print $5}') ;;
    esac
    echo "$name: $(grep -E '^[0-9.]+$' <<<"$said" | LC_ALL=C sort | tr '\n' ' ')" | sed 's/ *$//'
  done >"$work/$tool.out"
  same $tool "$work/$tool.out"
done
finish
