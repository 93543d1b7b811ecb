#!/usr/bin/env bash
# The C, C++ and Python examples, built by a stranger's project against an installed prefix outside the source
# tree, each starting a whole cluster in its own process inside a test host without uplink.
set -uo pipefail
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
need_root
need_images
prefix=$work/prefix
cmake --install "$built" --prefix "$prefix" >"$work/install.log" 2>&1 || { cat "$work/install.log"; fail "cmake --install"; }
cp -r examples/embed "$work/embed"
cmake -S tests/consumer -B "$work/consumer" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" -DEXAMPLES="$work/embed" >"$work/consumer.log" 2>&1 &&
  ninja -C "$work/consumer" >>"$work/consumer.log" 2>&1 || { tail -20 "$work/consumer.log"; fail "the consumer project does not build"; }
pass "find_package(Orchestra) builds a stranger's project"
library=$(find "$prefix" -name 'liborchestra.so*' | head -1)
export LD_LIBRARY_PATH=$(dirname "$library")
images=$PWD/$built/share/orchestra/images
for language in cpp c; do
  if in_test_host "$work/consumer/consumer_$language" "$work/data-$language" "$work/embed/pod.yaml" "$images" >"$work/$language.log" 2>&1; then
    pass "the $language example runs a pod from an installed prefix"
  else
    tail -20 "$work/$language.log"; failed "the $language example"
  fi
done
python=$(dirname "$(find "$prefix" -type d -name orchestra -path '*dist-packages*')")
if command -v python3 >/dev/null; then
  if in_test_host env PYTHONPATH="$python" ORCHESTRA_LIBRARY="$library" python3 "$work/embed/watch_pods.py" "$work/data-py" "$work/embed/pod.yaml" "$images" >"$work/py.log" 2>&1; then
    pass "the python example runs a pod from an installed prefix"
  else
    tail -20 "$work/py.log"; failed "the python example"
  fi
else
  skip "python example: python3 is not installed"
fi
finish
