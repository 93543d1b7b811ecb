#!/usr/bin/env bash
# The quickstart in full and at isolation level process, each in a test host of its own.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
need_root
need_images
for level in full process; do
  if in_test_host examples/quickstart.sh --once --no-build --isolation "$level" >"$work/$level.log" 2>&1; then
    pass "the quickstart passes with --isolation $level"
    sed 's/^/     /' "$work/$level.log"
  else
    cat "$work/$level.log"; failed "the quickstart with --isolation $level"
  fi
done
finish
