#!/usr/bin/env bash
# Makes one recording: record.sh TEST_COMPAT FILE 'TITLE' <COMMANDS
# TEST_COMPAT is the built program test_compat; COMMANDS are lines of shell that find their server in $KUBECONFIG and
# a scratch folder in $PWD. A command that fails ends it. See README.md.
set -euo pipefail
test_compat=$(realpath "$1") file=$(realpath "$2") title=$3
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'touch "$work/stop"; wait; rm -rf "$work"' EXIT
commands=$(cat)
mkfifo "$work/addresses" "$work/port" "$work/end"
ORC_COMPAT_SERVE=$work "$test_compat" -tc='a server for hands-on work*' >"$work/addresses" 2>/dev/null &
while read -r line; do
  case $line in 127.0.0.1:*' '127.0.0.1:*) plain=${line##*:} && break ;; esac
done <"$work/addresses"
python3 "$here/record.py" "$plain" "$file" "$title" <"$work/end" >"$work/port" &
recorder=$!
exec 3>"$work/end"
read -r port <"$work/port"
mkdir "$work/home"
cat >"$work/home/kubeconfig" <<CONFIG
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:$port"}}]
contexts: [{name: c, context: {cluster: c}}]
current-context: c
CONFIG
(cd "$work/home" && HOME=$work/home KUBECONFIG=$work/home/kubeconfig DATA=$here/../kubectl/data bash -euc "$commands")
exec 3>&-
wait "$recorder"
