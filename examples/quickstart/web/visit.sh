#!/bin/sh
# Answers with the version, the pod and the number of visits, which Redis counts.
visits=$(printf 'AUTH %s\r\nINCR visits\r\nQUIT\r\n' "$REDIS_PASSWORD" | nc -w 3 "$REDIS_HOST" 6379 | sed -n 's/^:\([0-9]*\).*/\1/p')
if [ -z "$visits" ]; then
  printf 'Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\nredis at %s did not answer\n' "$REDIS_HOST"
  exit 0
fi
printf 'Content-Type: text/plain\r\n\r\n%s version=%s pod=%s visits=%s\n' "$(cat /etc/web/greeting)" "$VERSION" "$HOSTNAME" "$visits"
