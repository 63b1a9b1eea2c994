#!/bin/sh
# Waits until nothing on this machine listens at port $1, for $2 seconds; prints `held` if something still does,
# and how many containers run. Changes nothing.
set -eu
pattern=$(printf ':%04X [0-9A-F]+:0000 (0A|07) ' "$1") # listens: as TCP, as UDP
for _ in $(seq "$(($2 * 2))"); do
  cat /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6 2>/dev/null | grep -Eq "$pattern" || exit 0
  sleep 0.5
done
echo "held $(docker ps -q | wc -l)"
