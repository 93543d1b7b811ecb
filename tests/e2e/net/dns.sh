#!/usr/bin/env bash
# `orchestra dns` from outside: zone files, reload under load, a bad file, forwarding, who may ask, limits, and the
# answers as dig, kdig and drill read them. Packets are counted by who sends and receives them, in a network
# namespace without uplink.
set -uo pipefail
cd "$(dirname "$0")/../../.."
source tests/e2e/lib.sh
need_root
export PATH=$PATH:$PWD/build/peers/dns/bin
[ -n "${INSIDE:-}" ] || exec unshare --net env INSIDE=1 bash -c 'ip link set lo up && exec "$0"' "$PWD/tests/e2e/net/dns.sh"
pids=()
cleanups+=('for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done; wait 2>/dev/null')
# start NAME FLAGS..: sets address[NAME] when it is ready.
declare -A address pid
start() {
  local name=$1; shift
  "$orchestra" dns --listen 127.0.0.1:0 "$@" >"$work/$name.out" 2>"$work/$name.err" & pid[$name]=$!; pids+=($!)
  wait_for 10 grep -q '^ready in' "$work/$name.out" || { cat "$work/$name.err"; fail "orchestra dns ($name) was not ready"; }
  address[$name]=$(sed -n 's/^dns //p' "$work/$name.out" | head -n 1)
}
ask() { local server=$1; shift; "$orchestra" dns query "$@" @"${address[$server]}" --timeout 10; }
zone() { # FILE ADDRESS
  cat >"$1.new" <<ZONE
\$TTL 60
@ SOA ns hostmaster 1 7200 1800 1209600 60
  NS ns
ns A 127.0.0.1
www A $2
alias CNAME www
text TXT "one two" three
*.any A 192.0.2.77
far CNAME www.other.example.
ZONE
  mv "$1.new" "$1"
}
zone "$work/shop.zone" 192.0.2.1
printf '$TTL 60\n@ SOA ns host 1 2 3 4 5\nwww A 192.0.2.99\n' >"$work/other.zone"
start one --zone-file shop.example="$work/shop.zone" --zone-file other.example="$work/other.zone"
[ "$(ask one www.shop.example | grep -v '^;')" = "www.shop.example. 60 IN A 192.0.2.1" ] && pass "a zone file is served, with the real address of port 0" || failed "www: $(ask one www.shop.example 2>&1)"
[ "$(ask one www.shop.example --tcp | grep -v '^;')" = "www.shop.example. 60 IN A 192.0.2.1" ] && pass "and by TCP" || failed "tcp: $(ask one www.shop.example --tcp 2>&1)"
ask one far.shop.example | matches 'www.other.example. 60 IN A 192.0.2.99' && pass "a CNAME goes on in another zone" || failed "far: $(ask one far.shop.example)"
status() { "$@" >/dev/null 2>&1; echo $?; }
[ "$(status ask one no.shop.example)" = 3 ] && [ "$(status ask one www.elsewhere.test)" = 10 ] && [ "$(status ask one text.shop.example TXT)" = 0 ] && pass "exit status 3 for NXDOMAIN, 10 for REFUSED, 0 for an answer" || failed "exit status"

# Questions without a pause while the file changes ten times: each gets an answer, old or new.
cat >"$work/load.py" <<'PY'
import socket, struct, sys
host, port = sys.argv[1].rsplit(":", 1)
name = b"".join(bytes([len(l)]) + l.encode() for l in "www.shop.example".split(".")) + b"\0"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((host, int(port))); s.settimeout(5)
sent = answered = 0; seen = set()
while True:
    sent += 1
    s.send(struct.pack(">HHHHHH", sent & 0xffff, 0x100, 1, 0, 0, 0) + name + b"\0\1\0\1")
    try: a = s.recv(4096)
    except socket.timeout: continue
    if a[:2] == struct.pack(">H", sent & 0xffff) and a[3] & 15 == 0 and a[7] == 1:
        answered += 1; seen.add(socket.inet_ntoa(a[-4:]))
    if sent >= 2000 and "192.0.2.10" in seen: break
print(sent, answered, len(seen))
PY
if command -v python3 >/dev/null; then
  timeout 60 python3 "$work/load.py" "${address[one]}" >"$work/load.out" & load=$!
  for i in 2 3 4 5 6 7 8 9 10; do
    zone "$work/shop.zone" "192.0.2.$i"
    has() { ask one www.shop.example | matches "192.0.2.$i\$"; }
    wait_for 10 has || failed "the change to 192.0.2.$i is not seen"
  done
  wait $load; read -r sent answered seen <"$work/load.out"
  [ "$sent" = "$answered" ] && [ "$seen" -ge 2 ] && pass "$sent questions while the zone changed 9 times: all answered" || failed "load: $(cat "$work/load.out")"
else
  skip "reload under load: python3 is not installed"
fi
echo 'broken A 300.1.1.1' >>"$work/shop.zone"
line=$(wc -l <"$work/shop.zone")
wait_for 10 grep -q "zone shop.example stays as it was: .*shop.zone:$line: \"300.1.1.1\" is not an IPv4 address" "$work/one.err" && ask one www.shop.example | matches '192.0.2' && pass "a bad file is told with its line, and the old zone is kept" || failed "bad file: $(tail -n 1 "$work/one.err")"
said=$("$orchestra" dns check shop.example="$work/shop.zone" 2>&1); [ $? = 2 ] && grep -q ":$line:" <<<"$said" && pass "dns check says the same" || failed "check: $said"
said=$("$orchestra" dns --listen "${address[one]}" --zone-file other.example="$work/other.zone" 2>&1); [ $? = 4 ] && grep -q "process ${pid[one]}" <<<"$said" && pass "a port that is taken names its holder" || failed "busy: $said"
zone "$work/shop.zone" 192.0.2.20

# A second server that forwards to the first, and remembers.
start two --forward "${address[one]}"
[ "$(ask two www.other.example | grep -v '^;')" = "www.other.example. 60 IN A 192.0.2.99" ] && pass "another server forwards" || failed "forward: $(ask two www.other.example 2>&1)"
kill "${pid[one]}"; wait "${pid[one]}" 2>/dev/null; [ $? = 0 ] && pass "SIGTERM ends it with status 0" || failed "SIGTERM"
ask two www.other.example | matches 192.0.2.99 && pass "what was forwarded once is remembered" || failed "cache"

# By TLS and by HTTPS, as others' clients ask; the certificate is replaced while it runs.
make_certificate() { # NAME
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" -addext "subjectAltName=DNS:$1" -keyout "$work/key.new" -out "$work/cert.new" 2>/dev/null &&
    mv "$work/key.new" "$work/key.pem" && mv "$work/cert.new" "$work/cert.pem"
}
if command -v openssl >/dev/null && make_certificate dns.example; then
  cp "$work/cert.pem" "$work/first.pem"
  start secure --listen-tls 127.0.0.1:0 --listen-https 127.0.0.1:0 --certificate "$work/cert.pem" --key "$work/key.pem" --zone-file shop.example="$work/shop.zone"
  by_tls=$(sed -n 's/^dns tls:\/\///p' "$work/secure.out"); by_https=$(sed -n 's/^dns https:\/\///p' "$work/secure.out")
  start behind --forward "tls://$by_tls#dns.example" --forward-ca "$work/first.pem"
  ask behind www.shop.example | matches '192.0.2.20' && pass "a server that asks this one by TLS has the answer" || failed "tls: $(ask behind www.shop.example 2>&1)"
  if command -v kdig >/dev/null; then
    kdig "@${by_tls%:*}" -p "${by_tls##*:}" +tls-ca="$work/cert.pem" +tls-host=dns.example +short www.shop.example 2>&1 | matches -x '192.0.2.20' && pass "kdig reads it by TLS" || failed "kdig +tls: $(kdig "@${by_tls%:*}" -p "${by_tls##*:}" +tls-ca="$work/cert.pem" +tls-host=dns.example www.shop.example 2>&1 | tail -n 3)"
    port=${by_https##*:}; port=${port%/dns-query}
    kdig_https() { kdig "@${by_https%%:*}" -p "$port" +https=dns.example/dns-query +tls-ca="$work/cert.pem" +tls-host=dns.example +short "$@" www.shop.example 2>&1; }
    if kdig --help 2>&1 | matches 'no.https' && ! kdig_https | matches 'not supported'; then
      [ "$(kdig_https)" = 192.0.2.20 ] && [ "$(kdig_https +https-get)" = 192.0.2.20 ] && pass "and by HTTPS (HTTP/2), POST and GET" || failed "kdig +https: $(kdig_https | tail -n 3)"
    else
      skip "kdig +https: this kdig was built without it"
    fi
  else
    skip "kdig +tls, +https: not installed (tools/fetch-peers.sh)"
  fi
  make_certificate new.example && kill -HUP "${pid[secure]}"
  wait_for 10 grep -q 'the certificate is read again' "$work/secure.err"
  start renewed --forward "tls://$by_tls#new.example" --forward-ca "$work/cert.pem"
  ask renewed www.shop.example | matches '192.0.2.20' && pass "after SIGHUP with the new certificate" || failed "new certificate: $(ask renewed www.shop.example 2>&1)"
else
  skip "by TLS and HTTPS: openssl is not installed"
fi

# Somebody who is not allowed gets nothing back: counted on the wire between two namespaces.
ip link add outer type veth peer name inner || fail "no veth pair"
unshare --net sleep 1000 & other=$!; pids+=($other)
apart() { [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; }
wait_for 5 apart || fail "no second network namespace"
ip link set inner netns $other && ip addr add 10.9.0.1/24 dev outer && ip link set outer up
in_other() { nsenter --net=/proc/$other/ns/net "$@"; }
in_other ip addr add 10.9.0.2/24 dev inner; in_other ip link set inner up; in_other ip link set lo up
sent_back() { link_packets outer tx; }
"$orchestra" dns --listen 10.9.0.1:5300 --zone-file shop.example="$work/shop.zone" >"$work/closed.out" 2>&1 & pids+=($!)
"$orchestra" dns --listen 10.9.0.1:5301 --zone-file shop.example="$work/shop.zone" --allow-from 10.9.0.0/24 --rate-limit 20 >"$work/open.out" 2>&1 & pids+=($!)
for s in closed open; do wait_for 10 grep -q '^ready in' "$work/$s.out" || fail "$s: $(cat "$work/$s.out")"; done
in_other "$orchestra" dns query www.shop.example @10.9.0.1:5301 >/dev/null 2>&1 || failed "allowed: $(in_other "$orchestra" dns query www.shop.example @10.9.0.1:5301 2>&1)"
before=$(sent_back)
in_other "$orchestra" dns query www.shop.example @10.9.0.1:5300 --timeout 0.5 >/dev/null 2>&1; [ $? = 5 ] && [ "$(( $(sent_back) - before ))" -le 2 ] && pass "who may not ask hears nothing" || failed "closed: $(( $(sent_back) - before )) packets back"
if command -v python3 >/dev/null; then
  cat >"$work/flood.py" <<'PY'
import socket, struct, time
name = b"".join(bytes([len(l)]) + l.encode() for l in "www.shop.example".split(".")) + b"\0"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("10.9.0.1", 5301)); s.settimeout(2)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
begin = time.monotonic()
for i in range(400): s.send(struct.pack(">HHHHHH", i, 0x100, 1, 0, 0, 0) + name + b"\0\1\0\1")
full = cut = 0
try:
    while True:
        a = s.recv(4096)
        if a[2] & 2: cut += 1
        else: full += 1
except socket.timeout: pass
print(full, cut, int(20 * (2 + time.monotonic() - begin)))
PY
  read -r full cut most < <(in_other python3 "$work/flood.py")
  [ "$full" -ge 1 ] && [ "$full" -le "$most" ] && [ "$cut" -ge 100 ] && [ "$cut" -le 200 ] && pass "400 questions at once from one network: $full answers, $cut times \"by TCP\", the rest nothing" || failed "limit: $full full (at most $most), $cut cut"
fi

# The same answers as others read them.
for tool in dig kdig drill; do
  if ! command -v $tool >/dev/null || ! $tool -v >/dev/null 2>&1 && ! $tool -V >/dev/null 2>&1; then skip "$tool: not installed (tools/fetch-peers.sh)"; continue; fi
  bad=
  for question in "www.shop.example A" "alias.shop.example A" "text.shop.example TXT" "shop.example SOA" "x.any.shop.example A" "shop.example NS"; do
    read -r name type <<<"$question"
    ours=$("$orchestra" dns query $question @10.9.0.1:5301 --timeout 10 | sed '/^;; a/,$d' | grep -v '^;' | tr -s ' ' | sort)
    case $tool in
      drill) theirs=$(drill -p 5301 "$name" @10.9.0.1 "$type" | sed -n '/ANSWER SECTION/,/^$/p' | grep -v '^;;') ;;
      *) theirs=$($tool +noall +answer -p 5301 @10.9.0.1 "$name" "$type" | grep -v '^;') ;;
    esac
    theirs=$(tr '\t' ' ' <<<"$theirs" | tr -s ' ' | grep . | sort)
    [ "$(tr -d '"' <<<"$ours")" = "$(tr -d '"' <<<"$theirs")" ] || bad="$bad $name $type: ours [$ours] $tool [$theirs];"
  done
  [ -z "$bad" ] && pass "$tool reads the same answers" || failed "$tool:$bad"
done
finish
