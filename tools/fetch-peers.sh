#!/usr/bin/env bash
# Servers that only tests talk to, from Debian packages that are unpacked below build/peers and not installed:
# installing them would start their services. tools/fetch-peers.sh; without network or apt it says so and goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/peers/packages build/peers/root
for package in etcd-server containerd docker-registry kubernetes-client; do
  # An old kubectl beside the machine's own, never in its place.
  root=build/peers/root
  [ "$package" = kubernetes-client ] && root=build/peers/kubectl
  [ -e "build/peers/packages/$package.done" ] && continue
  if (cd build/peers/packages && timeout 120 apt-get download -qq "$package" >/dev/null 2>&1) &&
    dpkg-deb -x build/peers/packages/"${package}"_*.deb "$root"; then
    touch "build/peers/packages/$package.done"
    rm -f build/peers/packages/"${package}"_*.deb
    echo "peers: $package is unpacked below $root"
  else
    echo "peers: the Debian package $package could not be fetched; its tests are skipped by name"
  fi
done
