#!/usr/bin/env bash
# Servers that only tests talk to, from Debian packages that are unpacked below build/peers and not installed:
# installing them would start their services. tools/fetch-peers.sh; without network or apt it says so and goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/peers/packages build/peers/root
# What tests and measurements of the DNS server are held against, with the libraries that those need.
dns_programs="knotd kdig nsd dnsmasq dig drill"
dns="knot knot-dnsutils libknot13 libdnssec9 libzscanner4 libxdp1 libbpf1 liburcu8 liblmdb0 libfstrm0 libprotobuf-c1 nsd dnsmasq-base
ldnsutils libldns3 bind9-dnsutils bind9-libs libmaxminddb0 libuv1 libjson-c5 libjemalloc2 libc-ares2 musl musl-dev"
missing=()
for package in etcd-server containerd docker-registry kubernetes-client nginx $dns; do
  [ -e "build/peers/packages/$package.done" ] || missing+=("$package")
done
# All at once, which is far faster; what apt does not know would stop the others, so then one by one.
if [ "${#missing[@]}" != 0 ] && ! (cd build/peers/packages && timeout 300 apt-get download -qq "${missing[@]}" >/dev/null 2>&1); then
  for package in "${missing[@]}"; do
    (cd build/peers/packages && timeout 120 apt-get download -qq "$package" >/dev/null 2>&1) || true
  done
fi
for package in "${missing[@]}"; do
  # An old kubectl beside the machine's own, never in its place.
  root=build/peers/root
  [ "$package" = kubernetes-client ] && root=build/peers/kubectl
  [[ " $(tr '\n' ' ' <<<"$dns") " = *" $package "* ]] && root=build/peers/dns
  if ls build/peers/packages/"${package}"_*.deb >/dev/null 2>&1 && dpkg-deb -x build/peers/packages/"${package}"_*.deb "$root"; then
    touch "build/peers/packages/$package.done"
    rm -f build/peers/packages/"${package}"_*.deb
    echo "peers: $package is unpacked below $root"
  else
    echo "peers: the Debian package $package could not be fetched; its tests are skipped by name"
  fi
done
# The machine's own libraries stay what they are: each program is started with those that were fetched for it.
mkdir -p build/peers/dns/bin
for program in $dns_programs; do
  real=$(ls "$PWD"/build/peers/dns/usr/{bin,sbin}/"$program" 2>/dev/null | head -n 1) || true
  [ -n "$real" ] || continue
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$PWD/build/peers/dns/usr/lib/x86_64-linux-gnu" "$real" >"build/peers/dns/bin/$program"
  chmod +x "build/peers/dns/bin/$program"
done
