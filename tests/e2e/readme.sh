#!/usr/bin/env bash
# What the README shows is true: its C++ blocks compile against include/, its Python blocks parse and use only
# names that the package has.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
compiler=$(command -v "${CXX:-g++}" || true)
# Block N of a language: $work/N.LANGUAGE
awk -v work="$work" '/^```/ { language = $0; sub(/^```/, "", language); if (file) { close(file); file = "" } else { file = work "/" ++n "." language }; next }
  file { print > file }' README.md
for block in "$work"/*.cpp; do
  [ -e "$block" ] || { failed "the README has no C++ block"; break; }
  [ -n "$compiler" ] || { skip "C++ blocks: no compiler"; break; }
  {
    grep '^#include' "$block"
    echo 'int report(const orchestra::Error&); extern const char* manifest;'
    echo 'int shown() {'
    grep -v '^#include' "$block"
    echo 'return made ? 0 : 1; }'
  } >"$block.whole.cc"
  if "$compiler" -std=c++20 -fsyntax-only -Iinclude "$block.whole.cc" >"$block.log" 2>&1; then
    pass "C++ block $(basename "$block" .cpp) compiles"
  else
    head -20 "$block.log"; failed "C++ block $(basename "$block" .cpp)"
  fi
done
# docs/observability.md: its C++ is the indented lines from `auto metrics` on.
{
  printf '#include <cstdio>\n#include <orchestra/metrics.hpp>\nvoid shown(const char* accept) {\n'
  awk '/^    auto metrics = /, /^    std::puts/' docs/observability.md
  echo '}'
} >"$work/metrics.cc"
if [ -z "$compiler" ]; then
  skip "docs/observability.md: no compiler"
elif grep -q counter "$work/metrics.cc" && "$compiler" -std=c++20 -fsyntax-only -Iinclude "$work/metrics.cc" >"$work/metrics.log" 2>&1; then
  pass "the C++ of docs/observability.md compiles"
else
  head -20 "$work/metrics.log"; failed "the C++ of docs/observability.md"
fi
for block in "$work"/*.python; do
  [ -e "$block" ] || { failed "the README has no Python block"; break; }
  command -v python3 >/dev/null || { skip "Python blocks: python3 is not installed"; break; }
  if PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=bindings/python python3 - "$block" <<'PYTHON'
import ast, sys
import orchestra
for node in ast.walk(ast.parse(open(sys.argv[1]).read())):
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        owner = {"orchestra": orchestra, "cluster": orchestra.Cluster, "client": orchestra.Client}.get(node.value.id)
        assert owner is None or hasattr(owner, node.attr), f"{node.value.id}.{node.attr} does not exist"
PYTHON
  then pass "Python block $(basename "$block" .python) names what exists"; else failed "Python block $(basename "$block" .python)"; fi
done
finish
