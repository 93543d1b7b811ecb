#!/usr/bin/env bash
# Installs the Debian packages that the build (and, with --tests, the tests) need and that are missing.
# Asks nothing, runs again without harm, and without root says what is missing and goes on.
set -euo pipefail
build=(build-essential cmake ninja-build ccache mold pkg-config libboost1.81-dev libboost-json1.81-dev libssl-dev
  libseccomp-dev doctest-dev zlib1g-dev libzstd-dev libbz2-dev liblzma-dev libnftables-dev libmnl-dev libyaml-dev libre2-dev
  libnghttp2-dev)
run=(nftables iproute2 busybox-static procps)
# Peers that tests and benchmarks run beside ours; none of these packages starts a service.
tests=(python3 crun git uidmap qemu-system-x86 podman conmon skopeo umoci buildah libarchive-tools python3-kubernetes
  nghttp2-client curl containernetworking-plugins)
wanted=("${build[@]}" "${run[@]}")
[ "${1:-}" = --tests ] && wanted+=("${tests[@]}")
missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "setup: all ${#wanted[@]} Debian packages are installed"
  exit 0
fi
echo "setup: installing ${#missing[@]} Debian packages: ${missing[*]}"
sudo=
if [ "$(id -u)" != 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo="sudo -n"
  else
    echo "setup: no root here; ask an administrator for: apt-get install ${missing[*]}" >&2
    echo "setup: going on with what is installed" >&2
    exit 0
  fi
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -q >/dev/null || echo "setup: apt-get update failed; trying with the lists that are here" >&2
$sudo apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
echo "setup: done"
