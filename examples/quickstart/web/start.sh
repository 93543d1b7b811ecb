#!/bin/sh
# Serves on the pod's own address, so that it also runs at isolation level process.
trap 'kill "$server" 2>/dev/null; exit 0' TERM INT
httpd -f -p "${POD_IP:-0.0.0.0}:$PORT" -h /www &
server=$!
echo "web version $VERSION listens on ${POD_IP:-0.0.0.0}:$PORT"
wait "$server"
