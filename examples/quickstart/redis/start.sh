#!/bin/sh
exec redis-server --bind "${POD_IP:-0.0.0.0}" --port 6379 --requirepass "$REDIS_PASSWORD" --save "" --appendonly no --dir /data
