#!/usr/bin/env bash
# The Python package against the built library: tests/bindings/package_test.py counts its own tests.
# built: test_compat
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
command -v python3 >/dev/null || { skip "python3 is not installed"; finish; }
library=$PWD/$built/lib/liborchestra.so
[ -e "$library" ] || fail "$library is not built"
host=(); [ "$(id -u)" = 0 ] && host=(in_test_host)
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD/bindings/python ORCHESTRA_LIBRARY=$library
export ORCHESTRA_TEST_COMPAT=$PWD/$built/bin/test_compat
"${host[@]}" python3 tests/bindings/package_test.py
