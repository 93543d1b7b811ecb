#!/usr/bin/env bash
# examples/dns_only and examples/l4_only, in C++ and in C: names and a load balancer in a program of one's own,
# without root and without a cluster.
set -uo pipefail
cd "$(dirname "$0")/../../.."
source tests/e2e/lib.sh
[ "$(id -u)" != 0 ] || in_own_network  # a port that is free stays so
bin=$PWD/$built/bin
cleanups+=('exec 9>&-; kill $(jobs -p) 2>/dev/null; wait 2>/dev/null')
# serve NAME COMMAND..: its input stays open on descriptor 9 until done_serving.
serve() {
  local name=$1; shift
  rm -f "$work/in"; mkfifo "$work/in"
  "$@" <"$work/in" >"$work/$name.out" 2>"$work/$name.err" & server=$!
  exec 9>"$work/in"
  wait_for 10 test -s "$work/$name.out" || { cat "$work/$name.err"; failed "$name: nothing came"; }
}
done_serving() { exec 9>&-; end_of $server; }
for language in cpp c; do
  serve dns "$bin/example_dns_only_$language" examples/dns_only/shop.zone 127.0.0.1:0
  at=$(sed -n 's/^dns //p' "$work/dns.out")
  "$orchestra" dns query www.shop.example @"$at" | matches '192.0.2.10' && "$orchestra" dns query abc.count.example TXT @"$at" | matches '"17 octets"' && pass "dns_only ($language): a zone file and a zone of the program's own" || failed "dns_only ($language): $(cat "$work/dns.err")"
  done_serving && pass "dns_only ($language) ends with its input" || failed "dns_only ($language): status $?"
done
command -v python3 >/dev/null || { skip "l4_only: python3 is not installed"; finish; }
cat >"$work/backend.py" <<'PY'
import socket, sys, threading
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(); print(s.getsockname()[1], flush=True)
while True:
    c, _ = s.accept(); c.sendall(sys.argv[1].encode()); c.close()
PY
for name in one two; do
  python3 "$work/backend.py" $name >"$work/$name.port" & cleanups+=("kill $! 2>/dev/null")
  wait_for 10 test -s "$work/$name.port"
done
one=$(cat "$work/one.port") two=$(cat "$work/two.port")
port=$(free_ports 1)
# talk [TIMES]: what is said on as many connections, a line for each.
talk() {
  python3 -c 'import socket, sys
for i in range(int(sys.argv[2])):
  s = socket.create_connection(("127.96.0.9", int(sys.argv[1])), 30); print(s.recv(99).decode())' "$port" "${1:-1}" 2>&1
}
serve l4 "$bin/example_l4_only_cpp" 127.96.0.9:$port 127.0.0.1:$one 127.0.0.1:$two
seen=$(talk 40 | sort -u | tr '\n' ' ')
[ "$seen" = "one two " ] && pass "l4_only (cpp) spreads connections over both backends" || failed "l4_only: $seen $(cat "$work/l4.err")"
echo "127.0.0.1:$two" >&9
wait_for 10 bash -c "[ \$(grep -c . '$work/l4.out') -gt \$(grep -n . '$work/l4.out' | head -n 1 | cut -d: -f1) ]"
only_two() { [ "$(talk 10 | sort -u)" = two ]; }
wait_for 10 only_two && pass "a backend that is taken away gets nothing more" || failed "l4_only: $(cat "$work/l4.out")"
done_serving && pass "l4_only (cpp) ends with its input" || failed "l4_only: status $?"
[[ $(talk) = *refused* ]] && pass "and gives its address back" || failed "still there: $(talk)"
serve l4c "$bin/example_l4_only_c" 127.96.0.9 $port 127.0.0.1 $one
[ "$(talk)" = one ] && pass "l4_only (c)" || failed "l4_only (c): $(cat "$work/l4c.err")"
done_serving || failed "l4_only (c): status $?"
finish
