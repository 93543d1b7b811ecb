#!/usr/bin/env bash
# The public validation programs of opencontainers/runtime-tools against orchestra-oci. They are no Debian package:
# whoever has Go builds them once and names the folder, else this is a skip.
#   git clone https://github.com/opencontainers/runtime-tools && cd runtime-tools && rm -rf vendor
#   CGO_ENABLED=0 go build -o runtimetest ./cmd/runtimetest && mkdir bin
#   for p in validation/*/; do [ "$p" = validation/util/ ] || CGO_ENABLED=0 go build -o "bin/$(basename "$p")" "./$p"; done
#   ORCHESTRA_RUNTIME_TOOLS=$PWD tests/e2e/validation.sh
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
tools=${ORCHESTRA_RUNTIME_TOOLS:-}
[ -n "$tools" ] || { skip "ORCHESTRA_RUNTIME_TOOLS names no folder with the built programs of opencontainers/runtime-tools"; finish; }
[ -x "$tools/runtimetest" ] && [ -d "$tools/bin" ] || fail "$tools holds no runtimetest and bin/: see the head of this script"
need_root
cleanups+=("rm -rf /run/orchestra/oci/.seccomp; rmdir /run/orchestra/oci /run/orchestra 2>/dev/null")  # the default root of the runtime
oci=${1:-$PWD/$built/bin/orchestra-oci}
known=$PWD/tests/runtime/runtime_tools.txt
cd "$tools"
for program in bin/*; do
  name=$(basename "$program")
  RUNTIME=$oci timeout 60 "$program" >"$work/$name" 2>&1 </dev/null
  status=$?; bad=$(grep -c '^not ok' "$work/$name")
  read -r want_status want_bad reason < <(awk -v n="$name" '$1 == n {$1 = ""; print}' "$known")
  if [ "$status" -le "${want_status:-0}" ] && [ "$bad" -le "${want_bad:-0}" ]; then
    pass "$name: $(grep -c '^ok' "$work/$name") ok${want_status:+; known: $reason}"
  else
    failed "$name: exit status $status, $bad not ok: $(grep '^not ok' -A 4 "$work/$name" | tr -s ' \n' ' ' | cut -c1-300) $(tail -n 2 "$work/$name" | tr '\n' ' ' | cut -c1-200)"
  fi
done
finish
