#!/usr/bin/env bash
# Builds the images of the quickstart from packages of this machine: a CGI web tier on busybox and Redis as
# Debian ships it (fetched and unpacked, not installed: installing would start its service). The archives go
# to share/orchestra/images beside bin/, where `orchestra up` preloads them.
#   prepare-images.sh BUILD_DIR
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
orchestra=$build/bin/orchestra
images=$build/share/orchestra/images
work=$build/quickstart
stamp=$images/.complete
mkdir -p "$work"
exec 9>"$work/lock"
flock 9  # one at a time: who comes second finds them made
sum=$(cat "$here"/web/* "$here"/redis/* "$0" | sha256sum | cut -c1-16)
if [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ]; then
  echo "images: $images is up to date"
  exit 0
fi
mkdir -p "$images" "$work/packages"
rm -f "$stamp"

fetch() {  # a Debian package, unpacked into $work/root
  local deb
  deb=$(find "$work/packages" -name "$1_*.deb" | head -1)
  if [ -z "$deb" ]; then
    (cd "$work/packages" && apt-get download -q "$1" >/dev/null 2>&1) ||
      { echo "images: could not download the Debian package $1; run apt-get update and try again" >&2; exit 1; }
    deb=$(find "$work/packages" -name "$1_*.deb" | head -1)
  fi
  dpkg-deb -x "$deb" "$work/root"
}

echo "images: fetching redis-server and its libraries"
rm -rf "$work/root" "$work/context"
mkdir -p "$work/root" "$work/context/web" "$work/context/redis/rootfs"
for package in redis-server redis-tools libjemalloc2 liblua5.1-0 liblzf1 lua-bitop lua-cjson libatomic1 libhiredis0.14 libsystemd0; do
  fetch "$package"
done

# Redis: the program and exactly the libraries that it loads, at their own paths.
libraries=$(find "$work/root" -type d -name "*-linux-gnu" | paste -sd:)
server=$(readlink -f "$work/root/usr/bin/redis-server")
install -D "$server" "$work/context/redis/rootfs/usr/bin/redis-server"
install -D "$work/root/usr/bin/redis-cli" "$work/context/redis/rootfs/usr/bin/redis-cli"
LD_LIBRARY_PATH=$libraries ldd "$server" "$work/root/usr/bin/redis-cli" | grep -o '/[^ ]*' | grep -v ':$' | sort -u |
  while read -r library; do
    case $library in
      "$work/root"/*) target=${library#"$work/root"} ;;
      *) target=$library ;;
    esac
    install -D "$(readlink -f "$library")" "$work/context/redis/rootfs$target"
  done
if LD_LIBRARY_PATH=$libraries ldd "$server" | grep 'not found'; then
  echo "images: redis-server lacks the libraries above" >&2
  exit 1
fi
cp "$here"/redis/* "$work/context/redis/"
install -D /bin/busybox "$work/context/redis/rootfs/bin/busybox"

# Web: busybox and a CGI script.
cp -r "$here"/web/. "$work/context/web/"
cp /bin/busybox "$work/context/web/busybox"
chmod +x "$work/context/web/"*.sh "$work/context/web/busybox" "$work/context/redis/"*.sh

store=$work/store
rm -rf "$store"
build_image() {  # context, tag, archive, build arguments
  "$orchestra" image build --store "$store" -t "$2" "${@:4}" "$work/context/$1" >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
  rm -f "$images/$3"
  "$orchestra" image export --store "$store" --format docker -o "$images/$3" "$2" >/dev/null
  echo "images: built $2 ($(( $(stat -c %s "$images/$3") / 1024 )) KiB)"
}
build_image redis quickstart/redis:1 redis-1.tar
build_image web quickstart/web:1 web-1.tar --build-arg VERSION=1
build_image web quickstart/web:2 web-2.tar --build-arg VERSION=2
echo "$sum" >"$stamp"
